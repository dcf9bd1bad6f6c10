"""Retrieval with a real embedding model, twice in a row on one database."""

import gzip
import json

TEXTS = {
    "bread": "Flour, water, salt and yeast are kneaded, left to rise, and baked for forty minutes.",
    "moon": "The tides follow the moon, whose gravity pulls the oceans towards it.",
    "vaccine": "Children who got two doses of the vaccine were protected against measles.",
    "engine": "A diesel engine ignites its fuel by compression, without a spark plug.",
}


def sources(printed):
    """The ids in the order of the prompt."""
    return [line[1:].partition("]")[0] for line in printed.splitlines() if line.startswith("[")]


def test_the_prompt_has_the_sources_that_answer_the_question(run_script, tmp_path):
    path = tmp_path / "texts.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps({"id": id, "text": text}) + "\n" for id, text in TEXTS.items())

    printed = run_script("rag.py", "--texts", str(path), "--k", "2", "immunity to an illness")

    for prompt in printed.split("Answer from")[1:]:
        assert sources(prompt)[0] == "vaccine"
        assert len(sources(prompt)) == 2
        assert TEXTS["vaccine"] in prompt
        assert prompt.rstrip().endswith("Question: immunity to an illness")
    assert printed.count("Answer from") == 2


def test_the_packages_that_are_carried_are_read(run_script):
    printed = run_script("rag.py", "--limit", "40", "an e-mail reader for a terminal", times=1)

    assert "alot" in sources(printed)
