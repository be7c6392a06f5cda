"""What an answer says in the end, where it takes back what it said first: `Sydney. No, wait, Canberra` is Canberra."""

import regex

from ghosttrack.common.maths.text import normalise

_NO = r"(?:no|nein|non|não|nee|nej|нет|ні|hayır|لا|לא)\b|नहीं|いいえ|いや|違|不(?=[\p{P}是对對])|错|錯|아니|ไม่ใช่|(?:definitely|certainly|absolutely|probably|surely|of course) not\b|never\b|i don['’]t think so|i doubt it"
_REJECTED = regex.compile(rf"(?<![^.?!…。！？؟\n])[^.?!…。！？؟\n]*+[?？؟]\s*(?={_NO})", regex.I)
"""A question that is answered with no."""
_TAKEN_BACK = regex.compile(
    r"""(?<![\p{L}\p{N}])(?:
          no,?\s(?:wait|sorry|actually) | (?:wait|sorry|oops),?\s(?=no\b) | wait,\sthat(?:['’]s|\sis|\swas)\s(?:not\sright|wrong) | or\srather
        | (?:scratch|strike)\sthat | i\stake\sthat\sback | let\sme\scorrect\s(?:that|myself) | correction(?=:) | my\s(?:mistake|bad) | i\smeant
        | nein,?\s(?:warte|moment|halt) | non,?\sattend(?:s|ez) | no,?\s(?:espera|perdón) | não,?\s(?:espera|espere) | нет,?\s(?:стой|подожди|постой)
        )(?!(?<=\p{L})\p{L}) | (?:\.{2,}|…|\s[-–—]|—)\s*no(?=,) | (?:\.{2,}|…|\s[-–—]|—)\s*actually(?=,?(?:\s+[^\s]+){1,5}$)
        | 不对，|不對，|(?:いや|いえ)、|아니,""",
    regex.VERBOSE | regex.I,
)


def corrected(answer: str) -> str:
    """The answer from behind its last correction on, without questions that it answers with no; all of it where nothing follows."""
    answer = _REJECTED.sub("", answer)
    for mark in reversed(list(_TAKEN_BACK.finditer(answer))):
        if normalise(rest := answer[mark.end() :]):
            return rest.lstrip(" ,.:;!–—，。、")
    return answer
