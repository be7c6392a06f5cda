"""Matchers on plain strings: what counts as right, in many scripts and forms."""

import pytest
import yaml

from ghosttrack.common.maths.text import normalise
from ghosttrack.common.package import package_file
from ghosttrack.stages.track.matching.matchers import MATCHERS, Key, auto, kind_of, token_f1
from ghosttrack.stages.track.matching.words import table

RIGHT = [
    ("1,000", "1000"),
    ("1912", "1912.0"),
    ("A. Paris", "A"),
    ("B. Oslo", "B"),
    ("東京です", "東京"),
    ("£", "£"),
    ("😀", "😀"),
    ("Paris, not London", "Paris"),
    ("It is not London but Paris", "Paris"),
    ("No, Paris", "Paris"),
    ("The capital is Paris.", "Paris"),
    ("I think C", "C"),
    ("(a)", "A"),
    ("(B) Oslo", "B"),
    ("The answer is B", "B"),
    ("Option C", "C"),
    ("Yes", "yes"),
    ("Yes, he does", "Yes"),
    ("True", "yes"),
    ("False.", "no"),
    ("That is not true", "no"),
    ("はい", "yes"),
    ("5%", "5"),
    ("5 km", "5"),
    ("1.5 million", "1500000"),
    ("1,5", "1.5"),
    ("1/2", "0.5"),
    ("½", "1/2"),
    ("50%", "0.5"),
    ("٣٤", "34"),
    ("XIV", "14"),
    ("14", "XIV"),
    ("five", "5"),
    ("twenty-five", "25"),
    ("1990–1995", "1990-1995"),
    ("July 4, 1776", "1776"),
    ("4 July 1776", "July 4, 1776"),
    ("07/04/1776", "July 4, 1776"),
    ("No. 5", "5"),
    ("5 + 3 = 8", "8"),
    ("Guinea Bissau", "Guinea-Bissau"),
    ("Guinea-Bissau", "Guinea Bissau"),
    ("Newton's laws", "Newton"),
    ("St Pauls", "St. Paul's"),
    ("the Bahamas", "The Bahamas"),
    ("in the Bahamas", "the Bahamas"),
    ("Washington, D.C.", "Washington, D.C."),
    ("Washington DC", "Washington, D.C."),
    ("J.R.R. Tolkien", "J. R. R. Tolkien"),
    ("AT and T", "AT&T"),
    ("the US", "US"),
    ("서울입니다", "서울"),
    ("서울", "서울"),
    ("首都是巴黎", "巴黎"),
    ("กรุงเทพฯ", "กรุงเทพ"),
    ("Москва", "москва"),
    ("Ещё", "Еще"),
    ("Sao Tome", "São Tomé"),
    ("ΑΘΗΝΑ", "Αθήνα"),
    ("Zürich", "Zurich"),
    ("İstanbul", "Istanbul"),
    ("القاهرة", "القاهرة"),
    ("Vitamin A", "Vitamin A"),
    ("The Who", "The Who"),
    ("Lord of the Rings", "The Lord of the Rings"),
    ("minus five", "-5"),
    ("-5", "-5"),
    ("−5", "-5"),
    ("1e3", "1000"),
    ("3 × 10^8", "300000000"),
    ("5 dollars", "$5"),
    ("0.50", "0.5"),
    ("1,234.5", "1234.5"),
    ("I do not know, maybe Paris", "Paris"),
    ("There is no doubt it is Paris", "Paris"),
    ("not until 1912", "1912"),
    ("F-16", "F-16"),
    ("Boeing 747", "747"),
    ("**Paris**", "Paris"),
    ("H2O", "H₂O"),
    ("10²", "100"),
    ("21st", "21"),
    ("A is the answer", "A"),
    ("5 degrees Celsius", "5 °C"),
    ("World War Two", "World War II"),
    ("World War 2", "World War II"),
    ("one thousand people", "1,000 people"),
    ("T", "True"),
    ("١٬٠٠٠", "1000"),
    ("Henry 8", "Henry VIII"),
    ("Catch 22", "Catch-22"),
    ("1,000,000", "1 million"),
    ("1 thousand", "1000"),
    ("$1,000", "1,000 US dollars"),
    ("three-quarters", "3/4"),
    ("75%", "3/4"),
    ("II", "2"),
    ("yes, I think so", "yes"),
    ("I say no", "no"),
    ("1000 m", "1 km"),
    ("3", "३"),
    ("2 hours", "120 minutes"),
    ("007", "7"),
    ("A.", "A"),
    ("a", "A"),
    ("Answer: C", "C"),
    ("no", "No"),
    ("Nope", "no"),
    ("π", "π"),
    (".no", ".no"),
    ("+33", "33"),
    ("33", "+33"),
    ("5'", "5"),
    ("one", "1"),
    ("There are eight planets", "8"),
    ("One of them is 8", "1"),
    ("2.0", "2"),
    ("1.000", "1"),
    ("C.", "C"),
    ("C is the answer", "C"),
    ("Paris-based company", "Paris"),
]
WRONG = [
    ("Paris or London", "Paris"),
    ("15.5", "5"),
    ("-5", "5"),
    ("4,500", "500"),
    ("हिंदू", "हिंदी"),
    ("バリ", "パリ"),
    ("C++", "C"),
    ("$", "£"),
    ("😀", "😁"),
    ("🇫🇷", "🇫🇮"),
    ("not Paris", "Paris"),
    ("Paris, not London", "London"),
    ("It isn't Paris", "Paris"),
    ("Parisian", "Paris"),
    ("C", "C++"),
    ("C#", "C"),
    ("B) Oslo", "A"),
    ("A dog", "A"),
    ("A or B", "A"),
    ("No", "Yes"),
    ("It is not correct", "yes"),
    ("yes and no", "yes"),
    ("5 kg", "5 km"),
    ("between 5 and 10", "5"),
    ("5-10", "5"),
    ("1776", "July 4, 1776"),
    ("COVID-19", "19"),
    ("not 5", "5"),
    ("5, not 6", "6"),
    ("5 + 3 = 8", "5"),
    ("Guinea-Bissau", "Guinea"),
    ("it belongs to us", "US"),
    ("大阪です", "東京"),
    ("パリではありません", "パリ"),
    ("不是巴黎", "巴黎"),
    ("カリマンタン", "リマ"),
    ("Не Москва", "Москва"),
    ("Vitamin B", "Vitamin A"),
    ("5", "-5"),
    ("10:30", "10"),
    ("1990s", "1990"),
    ("$5", "£5"),
    ("neither Paris nor London", "London"),
    ("anything other than Paris", "Paris"),
    ("never Paris", "Paris"),
    ("Apollo 11", "Apollo 1"),
    ("10²", "102"),
    ("The answer is C#", "C"),
    ("World War I", "World War II"),
    ("Absolutely not", "yes"),
    ("1/2", "2"),
    ("100", "1000"),
    ("10", "1"),
    ("3.14", "3"),
    ("1912", "912"),
    ("44 BC", "44 AD"),
    ("Paris is incorrect", "Paris"),
    ("7", "007"),
    ("100 °C", "100 °F"),
    ("Norway", "no"),
    ("non-Catholic", "Catholic"),
]
OPTIONS = ("Paris", "Oslo", "Rome", "none of the above")


@pytest.mark.parametrize(("answer", "gold"), RIGHT)
def test_a_right_answer_in_another_form_is_right(answer, gold):
    assert auto(answer, Key((gold,)))


@pytest.mark.parametrize(("answer", "gold"), WRONG)
def test_an_answer_that_only_looks_like_the_right_one_is_wrong(answer, gold):
    assert not auto(answer, Key((gold,)))


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("A. Paris", "Paris", True),
        ("A", "Paris", True),
        ("Paris", "A", True),
        ("B. Paris", "A", False),
        ("A. Oslo", "A", False),
        ("Oslo", "A", False),
        ("D", "none of the above", True),
        ("The answer is (A) Paris", "A", True),
        ("It is Paris", "Paris", True),
        ("Paris or Oslo", "Paris", False),
        ("not Paris", "Paris", False),
        ("e", "Paris", False),
        ("I choose B because A is wrong", "Oslo", True),
        ("A is wrong, so B", "B", True),
        ("B is incorrect", "B", False),
        ("[B]", "Oslo", True),
        ("B - Oslo", "B", True),
        ("definitely not A; B", "B", True),
        ("A or B", "B", False),
        ("Oslo, not Paris", "Oslo", True),
        ("Osloo", "Oslo", False),
    ],
)
def test_options_are_chosen_by_letter_or_text(answer, gold, right):
    assert auto(answer, Key((gold,), OPTIONS)) is right


def test_any_right_answer_will_do():
    assert auto("USA", Key(("United States", "USA")))
    assert not auto("UK", Key(("United States", "USA")))


@pytest.mark.parametrize(
    ("gold", "kind"),
    [("Yes", "yes_no"), ("False", "yes_no"), ("A", "choice"), ("1,000", "number"), ("July 4, 1776", "date"), ("Paris", "contains"),
     ("007", "contains"), ("XIV", "number")],
)  # fmt: skip
def test_the_kind_of_a_right_answer_is_read_from_it(gold, kind):
    assert kind_of(gold) == kind


@pytest.mark.parametrize(
    ("matching", "answer", "gold", "right"),
    [
        ("exact", "Paris, France", "Paris", False),
        ("exact", "1,000", "1000", True),
        ("exact", "4 July 1776", "July 4, 1776", True),
        ("contains", "Paris, France", "Paris", True),
        ("contains", "A. Paris", "Paris", True),
        ("number", "about 5 million people", "5,000,000", True),
        ("number", "Paris", "5", False),
        ("number", "0.67", "2/3", True),
        ("number", "2/3", "0.667", True),
        ("number", "0.66", "2/3", False),
        ("number", "0.7", "2/3", False),
        ("number", "0.33", "0.333", False),
        ("auto", "at noon", "12:00", True),
        ("auto", "12 noon", "12 pm", True),
        ("auto", "12:00 am", "midnight", True),
        ("auto", "midnight", "noon", False),
        ("auto", "the film High Noon", "High Noon", True),
        ("yes_no", "Yes, of course", "yes", True),
        ("choice", "B", "B", True),
        ("f1", "the city of Paris", "Paris city", True),
        ("f1", "Lyon", "Paris", False),
    ],
)
def test_a_matcher_asked_for_by_name(matching, answer, gold, right):
    assert MATCHERS[matching](answer, Key((gold,))) is right


def test_f1_is_that_of_squad():
    assert token_f1("the red cat sat", "red cat") == pytest.approx(2 * 1 * (2 / 3) / (1 + 2 / 3))
    assert token_f1("dog", "red cat") == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [("C", "C++"), ("C", "C#"), ("हिंदी", "हिंदू"), ("バリ", "パリ"), ("5", "-5"), ("15", "1.5"), ("£", "$"), ("10²", "102"),
     ("What is 5 + 3?", "What is 5 - 3?"), ("🇫🇷", "🇫🇮"), ("5%", "5"), ("vitamin a", "vitamin"), ("мой", "мои")],
)  # fmt: skip
def test_the_key_of_a_text_never_merges_different_things(one, other):
    assert normalise(one) != normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("The Hague", "hague"), ("São Tomé", "Sao Tome"), ("1,000", "1000"), ("ﾊﾟﾘ", "パリ"), ("U.S.A.", "USA"), ("٣٤", "34"),
     ("ΑΘΗΝΑ", "Αθήνα"), ("ещё", "ЕЩЕ"), ("Guinea-Bissau", "guinea bissau"), ("AT&T", "AT and T"), ("−5", "-5")],
)  # fmt: skip
def test_the_key_of_a_text_is_the_same_in_every_form(one, other):
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize("name", ["languages", "names", "units"])
def test_the_words_are_the_same_where_yaml_is_read_without_its_c_library(name: str) -> None:
    text = package_file(f"stages/track/matching/{name}.yaml").read_text(encoding="utf-8")
    assert yaml.load(text, yaml.BaseLoader) == table(name)
