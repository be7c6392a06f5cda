"""Where an answer parts from every right one, token by token, and for whom another token would have spoken there."""

from collections.abc import Sequence

from ghosttrack.common.maths.text import normalise

SAID, RIGHT, RIVAL = "said", "right", "rival"


def parting(tokens: Sequence[str], golds: Sequence[str]) -> int:
    """How many tokens of an answer begin a right one too: the next is where it goes wrong, or the end of the answer where
    it only stops too soon. golds: normalised."""
    for place in range(len(tokens)):
        if not any(gold.startswith(normalise("".join(tokens[: place + 1]))) for gold in golds):
            return place
    return len(tokens)


def side(text: str, so_far: str, rest: str, golds: Sequence[str]) -> str:
    """Whom a token speaks for after `so_far`, where the model said `rest`: SAID where it only begins the same, or spells it
    otherwise; RIGHT where a right answer goes on with it or ends there; else RIVAL. golds: normalised.

    " A" is no right answer beside " Al" (maty) because Astana begins so too.
    """
    said, before = normalise(so_far + text), normalise(so_far)
    spelled = text.strip().casefold()
    ends = said == before
    # " Niger" beside " Nigeria" is right all the same.
    if ends or said not in golds or said == normalise(so_far + rest):
        if rest.strip().casefold().startswith(spelled) if spelled else not rest.strip():
            return SAID
        if ends and not normalise(rest):
            return SAID
    goes_on = said in golds if ends else any(gold.startswith(said) for gold in golds)
    return RIGHT if said and goes_on else RIVAL


def contestants(
    texts: Sequence[str], tokens: Sequence[str], position: int, golds: Sequence[str]
) -> tuple[int, int]:
    """Whom the emitted token is set against: ranks of the likeliest other candidate that goes on to a right answer, and of
    the likeliest other that does not; −1 where there is none.

    texts: of the candidates by rank; tokens: of the answer; position: how many of them were said before; golds: normalised.
    """
    so_far, rest = "".join(tokens[:position]), "".join(tokens[position:])
    found: dict[str, int] = {}
    for rank, text in enumerate(texts[1:], start=1):
        found.setdefault(side(text, so_far, rest, golds), rank)
        if RIGHT in found and RIVAL in found:
            break
    return found.get(RIGHT, -1), found.get(RIVAL, -1)
