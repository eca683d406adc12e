from chpnet_stream.near import hint, nearest


def test_the_near_name_is_found_in_any_spelling() -> None:
    known = ["on_error", "deadline_ms", "flip_rows"]
    assert nearest("onerror", known) == "on_error"
    assert nearest("Deadline-MS", known) == "deadline_ms"
    assert nearest("fliprow", known) == "flip_rows"
    assert nearest("zzz", known) is None


def test_a_hint_has_the_near_name_or_all() -> None:
    assert hint("metod", ["method", "model"]) == "did you mean 'method'?"
    assert hint("zzz", ["method", "model"], "known here") == "known here: method, model"
