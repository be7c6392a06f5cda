"""ParaRel's facts (Elazar et al. 2021) as questions for GhostTrack: a second data set, to see whether figures carry over.

    python -m benchmarks.pararel <folder with P*.jsonl> questions.jsonl
    ghosttrack run smollm2-135m-pararel

The facts are LAMA's, from Wikidata: a single-token answer a subject. Of a subject with several answers all count as right.
Questions are in words of our own, one a relation, so that worked examples fit; ParaRel's cloze patterns are not used.
"""

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path

QUESTIONS = {
    "P17": "In which country is {}?",
    "P19": "In which place was {} born?",
    "P20": "In which place did {} die?",
    "P27": "Of which country is {} a citizen?",
    "P30": "On which continent is {}?",
    "P31": "What kind of thing is {}?",
    "P36": "What is the capital of {}?",
    "P37": "What is the official language of {}?",
    "P39": "Which office did {} hold?",
    "P47": "With which country or region does {} share a border?",
    "P101": "In which field did {} work?",
    "P103": "What is the native language of {}?",
    "P106": "What is the profession of {}?",
    "P108": "For which employer did {} work?",
    "P127": "Who owns {}?",
    "P131": "In which region is {}?",
    "P136": "In which genre does {} work?",
    "P138": "After what or whom is {} named?",
    "P140": "What is the religion of {}?",
    "P159": "In which city are the headquarters of {}?",
    "P176": "Which company makes the {}?",
    "P178": "Which company developed {}?",
    "P190": "Which city is the twin city of {}?",
    "P264": "On which label did {} record?",
    "P276": "Where is {}?",
    "P279": "Of what is {} a kind?",
    "P361": "Of what is {} a part?",
    "P364": "In which language was {} made?",
    "P407": "In which language is {} written?",
    "P413": "In which position does {} play?",
    "P449": "On which network was {} first shown?",
    "P463": "Of which organisation is {} a member?",
    "P495": "From which country does {} come?",
    "P527": "What does {} contain?",
    "P530": "With which country does {} have diplomatic relations?",
    "P740": "In which city was {} founded?",
    "P937": "In which city did {} work?",
    "P1001": "In which country does the title {} apply?",
    "P1303": "Which instrument does {} play?",
    "P1376": "Of what is {} the capital?",
    "P1412": "Which language did {} speak?",
}
"""Relation (Wikidata's number) to the question of a subject."""


def questions(folder: Path) -> list[dict[str, object]]:
    """Rows for data.questions, by relation and subject. Raises FileNotFoundError where no relation is there."""
    rows: list[dict[str, object]] = []
    for path in sorted(folder.glob("P*.jsonl")):
        question = QUESTIONS.get(path.stem)
        if question is None:
            continue
        answers: defaultdict[str, list[str]] = defaultdict(list)
        for line in path.read_text(encoding="utf-8").splitlines():
            fact = json.loads(line)
            if fact["obj_label"] not in answers[fact["sub_label"]]:
                answers[fact["sub_label"]].append(fact["obj_label"])
        rows += [
            {"question": question.format(subject), "answer": found[0], "aliases": found[1:], "relation": path.stem,
             "subject": subject}
            for subject, found in sorted(answers.items())
        ]  # fmt: skip
    if not rows:
        raise FileNotFoundError(f"{folder} has no P*.jsonl of ParaRel")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("facts", type=Path, help="folder with ParaRel's P*.jsonl")
    parser.add_argument("output", type=Path, help="the .jsonl file to write")
    arguments = parser.parse_args()
    rows = questions(arguments.facts)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with arguments.output.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    relations = Counter(row["relation"] for row in rows)
    print(json.dumps({"questions": len(rows), "relations": len(relations), "output": str(arguments.output)}))


if __name__ == "__main__":
    main()
