"""Names of one thing in other languages and letters, and what only looks like them."""

import pytest

from ghosttrack.stages.track.labels import judge


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("Deutschland", "Germany"),
        ("Germany", "Deutschland"),
        ("Côte d'Ivoire", "Ivory Coast"),
        ("Burma", "Myanmar"),
        ("Czech Republic", "Czechia"),
        ("Столица России — Москва.", "Moscow"),
        ("The capital is Seoul.", "서울"),
        ("Kiev", "Kyiv"),
        ("Calcutta", "Kolkata"),
        ("español", "Spanish"),
        ("Island.", "Iceland"),
        ("€", "Euro"),
        ("円", "yen"),
        ("La Suisse.", "Switzerland"),
        ("スイス", "Switzerland"),
        ("Чайковский", "Pyotr Ilyich Tchaikovsky"),
        ("Tchaikovsky", "Чайковский"),
        ("The novel is by Dostoyevsky.", "Dostoevsky"),
        ("Gorbachev", "Горбачёв"),
        ("Пушкин", "Pushkin"),
        ("Schostakowitsch", "Шостакович"),
        ("Gorbachov", "Gorbachev"),
        ("Aleksandr Pushkin", "Alexander Pushkin"),
    ],
)
def test_a_thing_is_named_in_another_language_or_its_letters(answer: str, gold: str) -> None:
    assert judge(answer, [gold], "Who or what is it?").label == 0


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("It is an Island", "Iceland"),
        ("Nigéria", "Niger"),
        ("อิเควทอเรียลกินี", "Guinea"),
        ("Portugal", "Portuguese"),
        ("France", "French"),
        ("India", "Hindi"),
        ("Mexico City", "Mexico"),
        ("Hong Kong", "China"),
        ("Kongo", "Republic of the Congo"),
        ("¥", "yen"),
        ("не Москва", "Moscow"),
        ("non Suisse", "Switzerland"),
        ("Nobody says Tchaikovsky", "Чайковский"),
        ("Достоевский", "Tolstoy"),
    ],
)
def test_another_thing_s_name_is_none(answer: str, gold: str) -> None:
    assert judge(answer, [gold]).label == 1
