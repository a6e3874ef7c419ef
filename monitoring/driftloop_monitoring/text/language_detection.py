"""Detects the language of a text by its script and its most common words. Offline and coarse: it
shows changes in the shares of languages, not the language of a single short text."""

import re
import unicodedata

WORDS = re.compile(r"[^\W\d_]+", re.UNICODE)
MAX_WORDS, MAX_LETTERS = 200, 400
MIN_HITS = 2
"""The least number of common words of a language that a text must contain."""

_SCRIPTS = {
    "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "CJK": "zh", "ARABIC": "ar", "HEBREW": "he",
    "GREEK": "el", "THAI": "th", "DEVANAGARI": "hi", "CYRILLIC": "ru",
}  # fmt: skip
_SCRIPT_SHARE = 0.25

_COMMON = {
    "en": "the and is of to in that it you for are with this be on as have was not can what",
    "de": "der die das und ist nicht ein eine zu den mit von auf für im sich es auch wie dem",
    "fr": "le la les et est des une dans que pour pas vous qui sur avec au ce il sont plus",
    "es": "el la los las y es que en una por con para no se del como un su más pero",
    "it": "il di che è la per un non sono una con del le si da come più anche della i",
    "pt": "o a os que de e é do da em um para não uma com se por mais como dos",
    "nl": "de het een en van is dat niet op te zijn voor met die in je er aan ook maar",
    "pl": "i w na nie się jest z do to że jak o ale po tak co dla od przez są",
    "sv": "och att det är en som för på av med den inte har till jag om ett men kan var",
    "tr": "ve bir bu için ile da de ne çok daha gibi olarak en o mi var değil sonra ama ben",
}
_BY_WORD: dict[str, list[str]] = {}
for _language, _words in _COMMON.items():
    for _word in _words.split():
        _BY_WORD.setdefault(_word, []).append(_language)


def language_of(text: str) -> str:
    """Return the ISO 639-1 code of one of the languages above; `?` if none is detected."""
    words = WORDS.findall(text.lower())[:MAX_WORDS]
    script = _script(words)
    if script is not None:
        return script
    hits: dict[str, float] = {}
    for word in words:
        languages = _BY_WORD.get(word, ())
        for language in languages:
            hits[language] = hits.get(language, 0.0) + 1.0 / len(languages)
    if not hits:
        return "?"
    best = max(hits, key=lambda name: hits[name])
    return best if hits[best] >= min(MIN_HITS, len(words) / 3) else "?"


def _script(words: list[str]) -> str | None:
    letters = "".join(words)[:MAX_LETTERS]
    found: dict[str, int] = {}
    for letter in letters:
        if letter.isascii():
            continue
        language = _SCRIPTS.get(unicodedata.name(letter, "").split(" ")[0])
        if language is not None:
            found[language] = found.get(language, 0) + 1
    if not found or sum(found.values()) < _SCRIPT_SHARE * len(letters):
        return None
    return "ja" if "ja" in found else max(found, key=lambda name: found[name])
