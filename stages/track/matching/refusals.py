"""Answers that say that they do not answer, which are neither right nor wrong nor a no."""

import re

from ghosttrack.common.maths.text import normalise

_KNOWS_NOT = (
    "(?:(?:i|we) )?(?:really |honestly )?(?:do not|dont|cannot|cant) (?:know|remember|recall)",
    "(?:(?:it|this|that) (?:is |was )?)?(?:not|isnt|wasnt) (?:mentioned|stated|specified|given|known|clear|certain)",
    "(?:the )?(?:passage|text|context|it) does(?: not|nt) (?:say|mention|state|specify)", "i (?:do not|dont) have (?:enough|any|sufficient|access|the|information)",
    "(?:i have )?no (?:idea|clue)", "(?:i am |im )?(?:not (?:really |entirely )?sure|unsure|not certain)",
    "(?:i|we|you) (?:cannot|cant|can not|could not|couldnt|am unable to|am not able to) (?:answer|determine|say|tell|help|find|provide)", "im unable to (?:answer|determine|say|tell|help|find|provide)", "(?:id|i would) rather not (?:say|answer)",
    "(?:(?:there is|there isnt|i have) )?(?:no|not enough|enough|insufficient) information", "unable to (?:determine|answer|say)", "please (?:clarify|specify|rephrase|provide)", "(?:could|can|would) you (?:please )?(?:clarify|specify|rephrase|repeat|provide)", "what do you mean",
    "(?:(?:its?|(?:the|that|this) (?:information|answer)) )?(?:is )?(?:unknown|unclear|uncertain|not (?:known|available|clear|possible to)|impossible to|(?:cannot|cant) be (?:determined|known)) ?(?:say|tell|determine)?",
)  # fmt: skip
_MEANWHILE = "the|that|this|these|what|who|when|where|which|how|if|about|on|with|to|for|from|in|at|enough|any|information|an?|your|you|it|of"
_ELSEWHERE = """
je ne sais pas|ich weiss nicht|ich weiss es nicht|keine ahnung|no se|no lo se|nao sei|non so|non lo so|я? ?не знаю|bilmiyorum|nie wiem
ik weet het niet|لا أعرف|לא יודע|मुझे नहीं पता|わかりません|分かりません|知りません|我?不知道|我?不确定|我?不清楚|das weiss ich (?:leider )?nicht|(?:잘 )?모르겠(?:어요|습니다)|ไม่ทราบ
"""
_SORRY = (
    "sorry|im sorry|i am sorry|im afraid|i am afraid|unfortunately|as an? (?:ai|language)(?: language)?(?: model)?|as of my .{1,40}?|leider|tut mir leid|es tut mir leid"
    "|desole|je suis desole|lo siento|desculpe|lamento|mi dispiace|извините|простите|к сожалению|抱歉|对不起|很抱歉|申し訳ありませんが|すみません|죄송합니다|죄송하지만"
)
_REFUSAL = re.compile(
    "unknown|not known|none|null|nan|na|n/a|n a|not available|no answer|unanswerable|no comment|idk|dunno"
    rf"|(?:(?:{_SORRY}) )?(?:but )?"
    rf"(?:(?:{'|'.join(_KNOWS_NOT)})(?: (?:whether|{_MEANWHILE})\b.*)?|{'|'.join(_ELSEWHERE.split(chr(10))[1:-1])})"
)
"""Of a normalised answer: it says that it does not answer, and nothing else."""


def refuses(answer: str) -> bool:
    """Whether an answer says that it does not answer, and nothing else."""
    return bool(_REFUSAL.fullmatch(normalise(answer)))
