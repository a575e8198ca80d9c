# SPDX-License-Identifier: Apache-2.0
"""ESPnet tasks whose trainer is chosen in the YAML."""
