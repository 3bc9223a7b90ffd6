import pytest

pytest.importorskip("resource", reason="measures memory as POSIX does")


@pytest.mark.slow
def test_a_changed_model_file_is_refused_or_right(tmp_path):
    from model_files import run

    found = run(1000, 1, tmp_path)
    # Both happen often: a file in which a licence was changed is right.
    assert found["refused"] > 500
    assert found["right"] > 50
