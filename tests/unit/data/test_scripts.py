# SPDX-License-Identifier: Apache-2.0
import pytest

from espnet_objsoup.data.corpora.covost2 import LANGUAGES
from espnet_objsoup.data.scripts import in_foreign_script

SAMPLES = {
    "ar": "السلام عليكم، كيف الحال؟",
    "ca": "L’àvia és intel·ligent.",
    "cy": "Mae’r tŷ yn fawr.",
    "fa": "کتاب‌های من می‌خواهم",
    "ja": "ジョンはテレビを見た。",
    "lv": "Ķēniņš — „jā”!",
    "mn": "Сайн байна уу? «Өвөл»",
    "ru": "Ещё раз: «Кто-нибудь?»",
    "ta": "தமிழ்நாடு, வணக்கம்!",
    "tr": "IŞIK, İstanbul’da!",
    "zh": "那个女人看见了。",
}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_scripts_of_all_languages(lang: str) -> None:
    own = SAMPLES.get(lang, "A sentence like any other, naïve.")
    assert not in_foreign_script(own, lang)
    others = {code: text for code, text in SAMPLES.items() if in_foreign_script(text, lang)}
    latin = {"ca", "cy", "lv", "tr"}
    same = {"ar": {"ar", "fa"}, "fa": {"ar", "fa"}, "ru": {"ru", "mn"}, "mn": {"ru", "mn"}}
    same |= {"ja": {"ja", "zh"}, "zh": {"zh"}, "ta": {"ta"}}
    assert SAMPLES.keys() - others.keys() == same.get(lang, latin)


@pytest.mark.parametrize(
    ("text", "lang", "foreign"),
    [
        ("", "fr", False),
        ("12 345 …", "ru", False),
        ("Il a dit «да».", "fr", False),
        ("Да, oui.", "fr", False),
        ("Нет, oui.", "fr", False),
        ("Нет, да, oui.", "fr", True),
        ("Windows 是什么", "zh", False),
        ("我喜欢 Open Source 软件", "zh", False),
        ("Open Source", "zh", True),
        ("Open Source ソフトウェアが好き", "zh", True),
        ("WikipediaはWeb上の百科事典です", "ja", False),
        ("PlayStationを買った", "ja", False),
        ("iPhone و Samsung Galaxy بهتر است", "fa", False),
        ("Да, Samsung Galaxy.", "ru", False),
        ("Да, 三星手机 Samsung.", "ru", True),
        ("スーパーー", "ja", False),
    ],
)
def test_a_part_of_a_text_does_not_count(text: str, lang: str, foreign: bool) -> None:
    assert in_foreign_script(text, lang) == foreign
