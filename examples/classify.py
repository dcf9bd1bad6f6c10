"""Classifies packages with as few dims as each needs, where the rows are.

    pip install 'mrl_db[embedded,learn]'
    python examples/classify.py

The label is the section of Debian's archive that a package is in. Most are sure after 24 of 384
dims; the cascade reads more of the others only, and proves what that costs in accuracy.
"""

import os
from collections import Counter

import numpy as np

import mrl_db
from mrl_db.classify import Cascade
from mrl_db.faces.demo import load_packages

DIMS = (24, 48, 96, 384)
FEWEST = 150  # packages that a section has, to be a class

packages = load_packages()
counts = Counter(packages.sections)
chosen = [i for i, section in enumerate(packages.sections) if counts[section] >= FEWEST]
chosen = np.random.default_rng(0).permutation(chosen)
vectors = packages.vectors[chosen]
labels = np.array(packages.sections)[chosen]

# The first rows fit the heads. The next, which no head has seen, choose the rule that says where to
# stop, and prove it. The last are new packages, which nobody has given a section.
fit, held, new = slice(0, 1000), slice(1000, -500), slice(-500, None)
cascade = Cascade(DIMS).fit(
    vectors[fit], labels[fit], calibrate=(vectors[held], labels[held]), max_loss=0.04
)
print(cascade.report)

with mrl_db.connect(os.environ.get("MRL_DB_DSN")) as db:
    if "unsorted" in db:
        db.drop("unsorted")
    docs = db.create_collection("unsorted", dims=384, key_type="text", columns={"section": "text"})
    names = np.array(packages.names)[chosen][new]
    docs.add(names.tolist(), vectors[new])
    docs.save_classifier("section", cascade)  # for every client, by this name

    found = docs.classify("section")  # reads the first 24 dims of all, then more of some
    docs.update(found.ids, section=found.answer.labels.tolist())

    truth = dict(zip(names, labels[new], strict=True))
    right = np.mean(
        [truth[i] == label for i, label in zip(found.ids, found.answer.labels, strict=True)]
    )
    print(f"{len(found.ids)} new packages: {right:.0%} in the right section")
    print(f"dims read: {found.answer.dims.mean():.0f} of 384 on average")
    print(
        "python:", docs.scan({"section": "python"}, limit=5, vectors=False).records().ids.tolist()
    )
