import json

import pytest

from napari_unet.serving.server.people import People


@pytest.fixture
def people(tmp_path):
    return People(tmp_path / "people.json")


def test_a_token_names_its_person_and_only_its_hash_is_kept(people, tmp_path):
    anna, token = people.add("anna")
    ben, other = people.add("ben", ["segment"], days=0)
    assert people.find(token) == anna
    assert people.find(other) == ben
    assert (anna.rights, ben.rights, ben.expires) == (("segment", "teach"), ("segment",), "")
    assert token not in (tmp_path / "people.json").read_text()
    for wrong in ("", token[:-1], anna.token_sha256, "ä", "\ud800"):
        assert people.find(wrong) is None


def test_a_change_by_another_process_holds_at_once(people, tmp_path):
    _, token = people.add("anna")
    assert people.find(token)
    other = People(tmp_path / "people.json")
    _, fresh = other.add("anna")
    assert people.find(token) is None
    assert people.find(fresh)
    other.remove("anna")
    assert people.find(fresh) is None
    assert not people.may("anna")


@pytest.mark.parametrize("name", ["", "../a", "Anna", "con", "a" * 33, "-a", "a.b"])
def test_what_is_no_name(people, name):
    with pytest.raises(ValueError, match="cannot be a person's name"):
        people.add(name)


def test_what_is_no_right_and_who_is_not_there(people):
    with pytest.raises(ValueError, match="give one or both of segment, teach"):
        people.add("anna", ["all"])
    people.add("ben")
    with pytest.raises(ValueError, match="no person 'anna'; there is: ben"):
        people.remove("anna")


@pytest.mark.parametrize("content", ["", "{}", '{"format": "x", "people": [{"name": "a"}]}'])
def test_a_broken_file_lets_nobody_in(people, tmp_path, content):
    _, token = people.add("anna")
    (tmp_path / "people.json").write_text(content)
    with pytest.raises(ValueError, match="is broken"):
        people.find(token)


def test_the_end_of_a_token(people, tmp_path):
    _, token = people.add("anna")
    content = json.loads((tmp_path / "people.json").read_text())
    content["people"][0]["expires"] = "2020-01-01T00:00:00+00:00"
    (tmp_path / "people.json").write_text(json.dumps(content))
    assert people.find(token) is None
    assert not people.may("anna")
