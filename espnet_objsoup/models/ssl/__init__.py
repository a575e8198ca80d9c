# SPDX-License-Identifier: Apache-2.0
"""Self-supervised objectives on the shared encoder: CPC and BEST-RQ."""

from espnet_objsoup.models.ssl.best_rq import BestRQ
from espnet_objsoup.models.ssl.cpc import CPC
from espnet_objsoup.models.ssl.ssl_head import AbsSSLHead, SSLInputs
from espnet_objsoup.models.ssl.subsampling import Subsampling, measure_subsampling

__all__ = ["CPC", "AbsSSLHead", "BestRQ", "SSLInputs", "Subsampling", "measure_subsampling"]
