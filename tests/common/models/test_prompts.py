import pytest
from tokenizers import pre_tokenizers, processors

from ghosttrack.common.errors import DataError
from ghosttrack.common.models.prompts import (
    around,
    common_prefix,
    encode,
    encode_answer,
    encode_prompt,
    end_of_subject,
)
from tests.tiny_models import bos_tokenizer, byte_tokenizer, sentence_piece_tokenizer

TOKENIZERS = [byte_tokenizer, bos_tokenizer, sentence_piece_tokenizer]


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request):
    return request.param()


def test_a_prompt_is_what_the_tokenizer_makes_of_the_whole_text(tokenizer):
    prefix, query = "the capital of Spain is Madrid\n", "the capital of France is"
    prompt = encode_prompt(tokenizer, prefix + query, "France", len(prefix))
    assert prompt.tokens == tokenizer(prefix + query).input_ids
    assert encode(tokenizer, prefix + query).tokens == prompt.tokens
    assert prompt.subject is not None
    upto = tokenizer.decode(prompt.tokens[: prompt.subject + 1], skip_special_tokens=True)
    assert upto.strip() == prefix + "the capital of France"


def test_a_subject_is_looked_for_in_the_query_only(tokenizer):
    prefix = "the capital of France is Paris\n"
    assert encode_prompt(tokenizer, prefix + "the of is", "France", len(prefix)).subject is None


@pytest.mark.parametrize(
    ("query", "subject", "text_before"),
    [
        ("Rome is in Rome, is", "Rome", "Rome is in Rome"),
        ("Romeo and Rome, Romeo", "Rome", "Romeo and Rome"),  # whole words first
        ("the capital of the Bahamas is", "Bahamas", "the capital of the Bahamas"),
        ("The Hague is", "the hague", "The Hague"),
        ("Romeo", "Rome", "Rome"),
        ("a (b) c", "(b)", "a (b)"),
        ("nothing here", "Rome", None),
        ("nothing here", " ", None),
    ],
)
def test_the_subject_is_its_last_mention(tokenizer, query, subject, text_before):
    end = end_of_subject(query, subject)
    assert (None if end is None else query[:end]) == text_before
    found = encode_prompt(tokenizer, query, subject)
    if text_before is None:
        assert found.subject is None
    else:
        assert (
            tokenizer.decode(found.tokens[: found.subject + 1], skip_special_tokens=True).strip()
            == text_before
        )


def test_a_subject_at_position_zero_is_never_tracked():
    assert encode_prompt(byte_tokenizer(), "ab", "a").subject is None
    assert encode_prompt(bos_tokenizer(), "ab", "a").subject == 1


def test_a_prompt_needs_two_tokens():
    with pytest.raises(DataError, match="shorter than two tokens"):
        encode_prompt(byte_tokenizer(), "a", "")
    assert len(encode_prompt(bos_tokenizer(), "a", "").tokens) == 2


def test_a_given_answer_is_cut_from_the_tokens_of_the_whole_text(tokenizer):
    before, answer = encode_answer(tokenizer, "the capital of France is", " Paris")
    assert before + answer == tokenizer("the capital of France is Paris").input_ids
    assert tokenizer.decode(answer).strip() == "Paris"


def test_a_token_with_characters_of_prompt_and_answer_is_the_answers():
    before, answer = encode_answer(sentence_piece_tokenizer(), "one o", "f the")  # "▁of" is one token
    assert sentence_piece_tokenizer().decode(answer) == "of the"
    assert before + answer == sentence_piece_tokenizer()("one of the").input_ids


def test_special_tokens_of_a_rendered_text_are_not_added_again():
    tokenizer = bos_tokenizer()
    assert encode(tokenizer, "<bos>ab", special=False).tokens == tokenizer("ab").input_ids
    assert around(tokenizer) == ([tokenizer.bos_token_id], [])
    assert around(byte_tokenizer()) == ([], [])


def test_a_space_of_its_own_is_no_special_token_and_belongs_to_what_it_begins():
    """Of byte-level tokenizers that trim offsets, and those that put a space before every text."""
    tokenizer = bos_tokenizer()
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    ends = [(name, backend.token_to_id(name)) for name in ("<bos>", "<eos>")]
    backend.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=ends),
        ]
    )
    assert around(tokenizer) == ([ends[0][1]], [ends[1][1]])
    before, answer = encode_answer(tokenizer, "of France is", " Paris ")
    assert before + answer == tokenizer("of France is Paris ").input_ids[:-1]
    assert tokenizer.decode(answer) == " Paris "


def test_the_common_prefix_is_as_long_as_all_rows_agree():
    assert common_prefix([[1, 2, 3], [1, 2], [1, 2, 4]]) == 2
    assert common_prefix([[1, 2], [2, 2]]) == 0
    assert common_prefix([[5, 6]]) == 2
