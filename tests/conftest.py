# SPDX-License-Identifier: Apache-2.0
"""Settings of all tests."""

from hypothesis import HealthCheck, settings

# How long an example takes is not what is tested, and depends on what else the machine does.
settings.register_profile(
    "untimed", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")
