# SPDX-License-Identifier: Apache-2.0
"""Where the corpora come from: addresses, licences, sizes and checksums of their archives.

Sources: openslr.org/12 and its md5sum.txt; openslr.org/33, whose checksum is the one that public
recipes for the corpus verify; sizes and checksums of CoVoST 2 as the `datasets` library has
recorded them; sizes of Common Voice from its metadata (common-voice/cv-dataset). Sizes after
unpacking are estimates: audio hardly shrinks when it is packed, text shrinks to a quarter at best.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from humanfriendly import format_size

from espnet_objsoup.data.corpora.commonvoice import language_dirs
from espnet_objsoup.data.languages import CORPUS_CODES

_OPENSLR = "https://www.openslr.org/resources"
_COVOST2 = "https://dl.fbaipublicfiles.com/covost"
_AUDIO_RATIO, _TEXT_RATIO = 1.05, 4.0


@dataclass(frozen=True)
class Archive:
    """A file to download.

    Attributes:
        part: name in `--parts`.
        url: address.
        holds: path that it unpacks to, below the directory of the corpus.
        size_bytes: of the archive.
        checksum: `md5:...` or `sha256:...`.
        unpacked_ratio: estimated size after unpacking over `size_bytes`.
    """

    part: str
    url: str
    holds: str
    size_bytes: int
    checksum: str
    unpacked_ratio: float

    @property
    def name(self) -> str:
        """File name."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Corpus:
    """A corpus whose archives anybody may download.

    Attributes:
        title: name and what it is.
        page: that describes it.
        licence: as the publisher names it.
        variable: of `db.sh` that says where it lies.
        archives: all of them.
        default: parts that are fetched without `--parts`.
    """

    title: str
    page: str
    licence: str
    variable: str
    archives: tuple[Archive, ...]
    default: tuple[str, ...]

    def select(self, parts: Sequence[str]) -> list[Archive]:
        """Archives of some parts, or the default ones.

        Raises:
            ValueError: for unknown parts, with the known ones.
        """
        known: dict[str, Archive] = {}
        for archive in self.archives:
            for name in _aliases(archive.part):
                known.setdefault(name, archive)
        unknown = [part for part in parts if part not in known]
        if unknown:
            names = " ".join(archive.part for archive in self.archives)
            raise ValueError(f"--parts: expected some of {names}; found {' '.join(unknown)}")
        return list(dict.fromkeys(known[part] for part in parts or self.default))

    def describe(self, archives: Sequence[Archive], directory: Path) -> str:
        """What there is to download, in words."""
        total = sum(archive.size_bytes for archive in archives)
        unpacked = sum(archive.size_bytes * archive.unpacked_ratio for archive in archives)
        lines = [
            self.title,
            f"  described at: {self.page}",
            f"  licence: {self.licence}",
            f"  size: {format_size(total)} in {len(archives)} archive(s); unpacked about "
            f"{format_size(unpacked)}",
        ]
        for archive in archives:
            lines += [
                f"  {archive.url}",
                f"      {format_size(archive.size_bytes)}, {archive.checksum.replace(':', ' ')}",
                f"      unpacks to {directory / archive.holds}",
            ]
        return "\n".join(lines)


def _aliases(part: str) -> list[str]:
    """Ways to write a part: `zh-CN_en` is also `zh-CN-en`, `zh_en` and `zh-en`."""
    source, _, target = part.partition("_")
    if not target:
        return [part]
    short = [code.partition("-")[0] for code in (source, target)]
    return [part, f"{source}-{target}", "_".join(short), "-".join(short)]


def _librispeech() -> Corpus:
    rows = """
    dev-clean        337926286   42e2234ba48799c1f50f24a7926300a1
    dev-other        314305928   c8d0bcc9cca99d4f8b62fcc847357931
    test-clean       346663984   32fa31d27d2e1cad72775fee3f4849a9
    test-other       328757843   fb5a50374b501bb3bac4815ee91d3135
    train-clean-100  6387309499  2a93770f6d5c6c964bc36631d331a522
    train-clean-360  23049477885 c0e676e450a7ff2f54aeade5171606fa
    train-other-500  30593501606 d1a0fd59409feb2c614ce4d30c387708
    """
    archives = tuple(
        Archive(
            part,
            f"{_OPENSLR}/12/{part}.tar.gz",
            f"LibriSpeech/{part}",
            int(size),
            f"md5:{md5}",
            _AUDIO_RATIO,
        )
        for part, size, md5 in (row.split() for row in rows.strip().splitlines())
    )
    return Corpus(
        "LibriSpeech (SLR12): about 1000 hours of read English speech",
        "https://www.openslr.org/12",
        "CC BY 4.0",
        "LIBRISPEECH",
        archives,
        tuple(archive.part for archive in archives),
    )


def _aishell() -> Corpus:
    rows = """
    data_aishell     15582913665 2f494334227864a8a8fec932999db9d8
    resource_aishell 1246920     957d480a0fcac85fc18e550756f624e5
    """
    archives = tuple(
        Archive(part, f"{_OPENSLR}/33/{part}.tgz", part, int(size), f"md5:{md5}", _AUDIO_RATIO)
        for part, size, md5 in (row.split() for row in rows.strip().splitlines())
    )
    return Corpus(
        "AISHELL-1 (SLR33): 178 hours of read Mandarin speech; resource_aishell (lexicon) is not "
        "used here",
        "https://www.openslr.org/33",
        "Apache License 2.0",
        "AISHELL",
        archives,
        ("data_aishell",),
    )


def _covost2() -> Corpus:
    rows = """
    fr_en    7282129  596d42accc976c607e7b4bd53903a0a03d5036af3b3ea276d7ff188981bb5b2f
    de_en    9926797  a64efc469ba7bd392de32538acf49ff05ac7fe83dd705b9a2a07573e63a2fedd
    es_en    3202080  aafb7255c00444cbff44ca92a947e16c8f7297f326b332f78b427f4f80240b97
    ca_en    5021926  acbdbc2b365ac2d192f802b2df2b4796070044e6782193bd0eca5d08e514def1
    it_en    1691247  da63a3ddf926a595971412e8fdf702405945ea6f9c6ac9de652a94fd6713183d
    ru_en    1443078  4d23d3d771234ef1e4afd0fb62231d3e9490cebb4c445997715607feef806fec
    zh-CN_en 587550   7a49bba59f8a05b68385e686a878332fb66080c12d4d85dc02b10f3f935447a4
    pt_en    476419   944cf077d47a0ee360fcde34ff42a77f4e898a6446c26ca9402ff543ef91e63b
    fa_en    3864623  1882aea149ce2ae9c553c41c2b7b6c837c4fc648a1a381705107e91679198e17
    et_en    246569   e0beadd6013b74efc2642c2289a67a0a3243bdbc5dc470798440b7538207eba0
    mn_en    189710   9bf7633e24a9742211aeeebaee931d22e04a7e91a87e40d4f4957d408aa3dff4
    nl_en    543795   1cd5baf7282e6556d7463d26ae28cc717a64b9b7875bd1b38f226e04498b2336
    tr_en    280904   23130548e8ff9433c74b2193e0bc39d04d2aacb811841f592a7b35d358fad697
    ar_en    109802   a8f7f8e393cc78aea1382e021bd6adf4ff75ee4ae96cddd96c80291fcc8c87cf
    sv-SE_en 96161    f4d9931ef0884eb601e1d6ac7b95893ac0b88534c72c1404c64ae0b4bd2d7c81
    lv_en    88836    c13ae5b001698f772c683450d121c9a9dccdfd0c90184f75429d65e9f846dfe3
    sl_en    58445    6f2e6f2bc8018fff0466030cd385837e89e482d162bee9d5bca269dcbc7eab69
    ta_en    55659    03176367953cde717c1b6c19d21f2a0298f07f3459f5ef24866a44988eaea335
    ja_en    54666    2ca0ca6607a58cee36c72c43b916a5ffb9bc920a766806751aea6e1620a4371f
    id_en    51755    4e6b58e66b5a7cbba543895ee1ffbdf5b49018e1274f7fe5b045ecb6be467095
    cy_en    875557   73fd49342e27636ab4bd84b3c2762a2803d4ddaa01b98032ba79228335e9560c
    en_de    25779505 f414705b6197cc9a30cf05f8fc4471c8e99809a2c1f2c1da24a7ba617f42fce2
    en_tr    23659131 9cfb1533cd2226c6ed13fe9462b2ecc5ebc9bb50fc0eb7d0dfe8a68ee4873d42
    en_fa    26148420 d255d629f604aa32ea06dbb612acf7602221bb0e05ad0d652ad0cf9ba6894532
    en_sv-SE 23671482 0c591c50b3b13db4df9365802c2cf8a69c3db00a39da6306fc44e76a1b25b4b6
    en_mn    27527436 7ef1b63adb5cb6bbc7a1f3cfa7c2ceab9a83d99aa4727ba894d101b7b320beb7
    en_zh-CN 24280932 7509b7c587326ef094c1e639111aef13f3888d26f707672dadec4d37d8e501d8
    en_cy    24224499 72173329cec05fc70efbf9efa2144a3cc4fbbf3c2e59c01d176a8960f40d0da7
    en_ca    24167201 efbcd8fcc730ce3900adb274d0842ad65980a559de0a840d4a8bcbe94eabf774
    en_sl    23421999 4af4f68bbc89527f0cce69c99721a27ae13ec98faaba38436b742ad3a9999393
    en_et    23223843 4966b7215adf6d29ad5d9c91030025b245c79c460594c0a0c8fbc2a95916e0ab
    en_id    22904065 f2948f3473fafe6b437e8b55949b059d21da5b9893bd011f6d650a6bcba98f79
    en_ar    25301304 cd780ad364b8b246b16cf76e4d8e14e21ca29e70b247a10856a923736e973122
    en_ta    30037790 e95519f0157a779315bf8f75496f71a3fae7be5fec0375ca8fb217d6f1aac6fa
    en_lv    24573927 b3bbbdf9ab66df79a00724145d43669305460c345bce950f0f2e252900b8bd53
    en_ja    26664247 2308c0b1737cc3ed7662d7e1a748b29da71ea9023681a617bd51a81c11889671
    """
    archives = tuple(
        Archive(
            part,
            f"{_COVOST2}/covost_v2.{part}.tsv.tar.gz",
            f"covost_v2.{part}.tsv",
            int(size),
            f"sha256:{sha256}",
            _TEXT_RATIO,
        )
        for part, size, sha256 in (row.split() for row in rows.strip().splitlines())
    )
    return Corpus(
        "CoVoST 2: translations of Common Voice (its audio is separate)",
        "https://github.com/facebookresearch/covost",
        "CC0",
        "COVOST2",
        archives,
        ("fr_en", "de_en", "es_en", "ca_en"),
    )


CORPORA = {"covost2": _covost2(), "librispeech": _librispeech(), "aishell": _aishell()}


# Archives of Common Voice Corpus 4 in bytes, by the languages of CoVoST 2.
_COMMON_VOICE_4 = {
    "en": 41448227462, "de": 15073085593, "fr": 11572099037, "ca": 8180437356, "fa": 7090877468,
    "es": 6226191576, "it": 3447602853, "cy": 2145771717, "ru": 2131930453, "nl": 927639565,
    "zh": 873632587, "pt": 774265004, "tr": 408922099, "et": 365304398, "mn": 350541861,
    "ar": 346519122, "sl": 183825568, "lv": 168378556, "sv": 161284616, "ta": 139043206,
    "id": 106786387, "ja": 88830917,
}  # fmt: skip


def missing_common_voice(directory: Path, langs: Sequence[str]) -> list[Path]:
    """What is missing of Common Voice, as paths that have to be there."""
    folders = []
    for lang in langs:
        there = language_dirs(directory, lang)
        folders.append(there[0] if there else directory / CORPUS_CODES.get(lang, lang))
    wanted = [folder / name for folder in folders for name in ("validated.tsv", "clips")]
    return [path for path in wanted if not path.exists()]


def describe_common_voice(directory: Path | None, langs: Sequence[str]) -> str:
    """How to get Common Voice by hand, in words."""
    where = directory or Path("COMMONVOICE")
    names = " ".join(CORPUS_CODES.get(lang, lang) for lang in langs) or "each language"
    sizes = [_COMMON_VOICE_4[lang] for lang in langs or _COMMON_VOICE_4 if lang in _COMMON_VOICE_4]
    return f"""\
Common Voice: read speech in many languages, the audio of CoVoST 2
  described at: https://github.com/common-voice/cv-dataset
  published at: https://mozilladatacollective.com (the Mozilla Data Collective, the only place since
  October 2025)
  licence: CC0, though by the terms of that place not to be passed on from it; downloading needs an
  account and agreement with them, so it cannot be done from here
  size: {format_size(sum(sizes))} for {len(sizes)} language(s) in release 4; later ones are larger
  What to do: there choose a release (CoVoST 2 was made from Common Voice Corpus 4 of 2019-12-10;
  later ones lack clips that were withdrawn since) for: {names}
  Unpack every archive so that a language LANG (with region where Common Voice has it: zh-CN, sv-SE)
  has
      {where}/LANG/validated.tsv
      {where}/LANG/clips/*.mp3"""
