"""Han numerals in digits: each power of ten takes what stands before it; a year may have digits alone (一九四九)."""

import re

_DIGITS = {one: value for value, one in enumerate("〇一二三四五六七八九")} | {"零": 0, "两": 2}
_POWERS = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8, "億": 10**8}
_NUMBER = re.compile(
    "(?<![一-鿿\\d])第?(百分之)?([〇零一二两三四五六七八九十百千万亿億]+)(?=$|[\\W。]|[个個つ人年月日歳岁世])"
    "|(?<=[年月])()([一二三四五六七八九十]{1,3})(?=[月日])"
)


def han_numbers(text: str) -> str:
    """The text with its Han numerals in digits; numerals inside other words (四川) stay."""
    return _NUMBER.sub(_number, text)


def _number(match: "re.Match[str]") -> str:
    written, share = match[2] or match[4], "%" if match[1] else ""
    if not set(written) & set(_POWERS):
        return "".join(str(_DIGITS[one]) for one in written) + share
    total = section = last = 0
    for one in written:
        power = _POWERS.get(one, 0)
        if power >= 10**4:
            total, section, last = (total + section + last or 1) * power, 0, 0
        elif power:
            section, last = section + (last or 1) * power, 0
        else:
            last = _DIGITS[one]
    return f"{total + section + last}{share}"
