# SPDX-License-Identifier: Apache-2.0
"""One command per stage: `python -m espnet_objsoup.bin.<command>`."""
