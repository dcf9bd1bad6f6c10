"""Every kernel on every instruction set against its float64 or integer twin, at every length, offset and stride."""

import ctypes
import mmap

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrl_db import available_simd, kernels

SIMD = available_simd()
LENGTHS = range(141)


def guarded(array):
    """Copies an array to the end of a page whose next page cannot be read: a kernel that reads one byte too far dies."""
    page = mmap.PAGESIZE
    size = -(-max(1, array.nbytes) // page) * page
    memory = mmap.mmap(-1, size + page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(address + size), ctypes.c_size_t(page), 0) == 0
    placed = (
        np.frombuffer(memory, dtype=np.uint8, count=size)[size - array.nbytes :]
        .view(array.dtype)
        .reshape(array.shape)
    )
    placed[...] = array
    return placed


@pytest.fixture(params=SIMD)
def simd(request):
    with kernels.using_simd(request.param):
        yield request.param


def float_case(dims, n=7, seed=0):
    rng = np.random.default_rng(seed + dims)
    return rng.standard_normal(dims, dtype=np.float32), rng.standard_normal(
        (n, dims), dtype=np.float32
    )


@pytest.mark.parametrize("dims", LENGTHS)
def test_float_kernels_stay_within_the_proven_error_at_every_length(simd, dims):
    query, rows = float_case(dims)
    query, rows = guarded(query), guarded(rows)

    dot = kernels.inner_product(query, rows)
    l2 = kernels.squared_l2(query, rows)
    cosine = kernels.cosine_distance(query, rows)

    want, magnitude = oracle.inner_product(query, rows)
    assert np.all(np.abs(dot - want) <= oracle.gamma(dims) * magnitude)
    want = oracle.squared_l2(query, rows)
    assert np.all(np.abs(l2 - want) <= oracle.gamma(dims + 2) * want)
    if dims == 0:
        assert np.isnan(cosine).all()
    else:
        assert np.all(
            np.abs(cosine - oracle.cosine_distance(query, rows)) <= 4 * oracle.gamma(dims + 4)
        )


@pytest.mark.parametrize("dims", LENGTHS)
def test_integer_kernels_are_exact_at_every_length(simd, dims):
    rng = np.random.default_rng(dims)
    query = guarded(rng.integers(-128, 128, dims, dtype=np.int8))
    rows = guarded(rng.integers(-128, 128, (7, dims), dtype=np.int8))
    bits = guarded(rng.integers(0, 256, (7, dims), dtype=np.uint8))
    planes = guarded(rng.integers(0, 256, (4, dims), dtype=np.uint8))

    assert (
        kernels.inner_product_int8(query, rows).tolist()
        == oracle.inner_product_int8(query, rows).tolist()
    )
    assert kernels.hamming(planes[0], bits).tolist() == oracle.hamming(planes[0], bits).tolist()
    for count in (1, 2, 4):
        assert (
            kernels.inner_product_bit(planes[:count], bits).tolist()
            == oracle.inner_product_bit(planes[:count], bits).tolist()
        )


@pytest.mark.parametrize("value", [-128, 127])
@pytest.mark.parametrize("other", [-128, 127])
def test_int8_extremes_do_not_saturate(simd, value, other):
    query, rows = np.full(4096, value, dtype=np.int8), np.full((3, 4096), other, dtype=np.int8)

    assert kernels.inner_product_int8(query, rows).tolist() == [4096 * value * other] * 3


@given(
    dims=st.integers(1, 200),
    n=st.integers(0, 20),
    pad=st.integers(0, 9),
    offset=st.integers(0, 17),
    seed=st.integers(0, 2**32 - 1),
    simd=st.sampled_from(SIMD),
)
@settings(max_examples=600)
def test_offsets_and_strides_do_not_matter(dims, n, pad, offset, seed, simd):
    rng = np.random.default_rng(seed)
    floats = rng.standard_normal((n, dims + pad + offset), dtype=np.float32)[:, offset:]
    query = rng.standard_normal(dims + offset, dtype=np.float32)[offset:]
    codes = rng.integers(-128, 128, (n, dims + pad + offset), dtype=np.int8)[:, offset:]
    code = rng.integers(-128, 128, dims, dtype=np.int8)

    with kernels.using_simd(simd):
        dot = kernels.inner_product(query, floats, dims=dims)
        cosine = kernels.cosine_distance(query, floats, dims=dims)
        integers = kernels.inner_product_int8(code, codes, dims=dims)

    want, magnitude = oracle.inner_product(query, floats[:, :dims])
    assert np.all(np.abs(dot - want) <= oracle.gamma(dims) * magnitude)
    assert np.all(
        np.abs(cosine - oracle.cosine_distance(query, floats[:, :dims]))
        <= 4 * oracle.gamma(dims + 4)
    )
    assert integers.tolist() == oracle.inner_product_int8(code, codes[:, :dims]).tolist()


@given(
    n=st.integers(0, 1200),
    k=st.integers(1, 300),
    levels=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    simd=st.sampled_from(SIMD),
)
@settings(max_examples=300)
def test_top_k_equals_a_stable_sort(n, k, levels, seed, simd):
    """Few levels make many ties: a tie goes to the earlier row."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, levels, (n, 3)).astype(np.float32)
    query = np.array([1.0, 0.0, 0.0], dtype=np.float32)

    with kernels.using_simd(simd):
        distances, positions = kernels.top_k(query, rows, k, metric="inner_product")
        codes, code_positions = kernels.top_k_int8(
            np.array([1, 0, 0], np.int8), rows.astype(np.int8), k
        )

    want = np.argsort(-rows[:, 0], kind="stable")[:k]
    assert positions.tolist() == want.tolist()
    assert distances.tolist() == (-rows[want, 0]).tolist()
    assert code_positions.tolist() == want.tolist()
    assert codes.tolist() == (-rows[want, 0]).tolist()


@given(
    n=st.integers(0, 700),
    k=st.integers(1, 50),
    seed=st.integers(0, 2**32 - 1),
    simd=st.sampled_from(SIMD),
)
@settings(max_examples=100)
def test_top_k_hamming_equals_a_stable_sort(n, k, seed, simd):
    rng = np.random.default_rng(seed)
    rows, query = (
        rng.integers(0, 256, (n, 5), dtype=np.uint8),
        rng.integers(0, 256, 5, dtype=np.uint8),
    )

    with kernels.using_simd(simd):
        bits, positions = kernels.top_k_hamming(query, rows, k)

    want = np.argsort(oracle.hamming(query, rows), kind="stable")[:k]
    assert positions.tolist() == want.tolist()
    assert bits.tolist() == oracle.hamming(query, rows)[want].tolist()


def test_a_zero_row_has_no_cosine_and_comes_last(simd):
    rows = np.array([[0, 0], [1, 0], [-1, 0]], dtype=np.float32)
    query = np.array([1, 0], dtype=np.float32)

    assert np.isnan(kernels.cosine_distance(query, rows)[0])
    distances, positions = kernels.top_k(query, rows, 3)
    assert positions.tolist() == [1, 2, 0]
    assert distances.tolist() == [0.0, 2.0, np.inf]


@given(
    metric=st.sampled_from(["cosine", "inner_product", "l2"]),
    scale=st.sampled_from([1e-30, 1e-18, 1e-6, 1.0, 1e6, 1e14, 1e18]),
    n=st.integers(1, 600),
    dims=st.integers(1, 40),
    k=st.integers(1, 30),
    copies=st.integers(0, 40),
    zeros=st.integers(0, 3),
    seed=st.integers(0, 2**32 - 1),
    simd=st.sampled_from(SIMD),
)
@settings(max_examples=500)
def test_exact_scan_misses_nothing_at_any_scale(
    metric, scale, n, dims, k, copies, zeros, seed, simd
):
    """Duplicates, near-duplicates, zero rows and the ends of float32's range; blocks of any size."""
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((n, dims)) * scale).astype(np.float32)
    rows[rng.integers(0, n, copies)] = rows[0] * np.float32(1 + 1e-7)
    rows[rng.integers(0, n, zeros)] = 0
    query = (rng.standard_normal(dims) * scale).astype(np.float32)
    with np.errstate(over="ignore"):
        want = oracle.nearest(metric, query, list(range(n)), rows, k)

    with kernels.using_simd(simd):
        from mrl_db.model.metric import Metric

        scan = kernels.exact_scan(Metric.of(metric), query[np.newaxis], k)
        for block in np.array_split(rows, rng.integers(1, 5)):
            scan.scan(np.ascontiguousarray(block))
        distances, positions = scan.hits(0)

    assert len(positions) >= min(k, n)
    got = [(d, p) for d, p in zip(distances.tolist(), positions.tolist(), strict=True)][:k]
    for (d, p), (want_d, _) in zip(got, want, strict=True):
        recomputed = oracle.distance(metric, query, rows[p : p + 1])[0]
        assert np.isclose(
            d,
            want_d,
            rtol=1e-9,
            atol=1e-12 * max(scale * scale, 1e-300) if metric == "inner_product" else 1e-12,
            equal_nan=True,
        )
        assert np.isclose(
            d, recomputed, rtol=1e-9, atol=1e-9 * max(1.0, abs(recomputed)), equal_nan=True
        )


@pytest.mark.parametrize(
    ("query", "rows", "error"),
    [
        (np.zeros(3), np.zeros((2, 3), np.float32), "float64"),
        (np.zeros(3, np.float32), np.zeros((2, 3)), "float64"),
        (np.zeros((1, 3), np.float32), np.zeros((2, 3), np.float32), "shape"),
        (np.zeros(2, np.float32), np.zeros((2, 3), np.float32), "3 dims"),
        (np.zeros(6, np.float32)[::2], np.zeros((2, 3), np.float32), "contiguous"),
        (np.zeros(3, np.float32), np.zeros((2, 6), np.float32)[:, ::2], "contiguous"),
        (np.zeros(3, np.float32), np.zeros((2, 3), np.float32)[::-1], "backwards"),
        ([1.0], np.zeros((2, 3), np.float32), "list"),
    ],
)
def test_the_door_of_the_kernels_says_what_is_wrong(query, rows, error):
    with pytest.raises((TypeError, ValueError), match=error):
        kernels.inner_product(query, rows)


@given(
    metric=st.sampled_from(["cosine", "inner_product", "l2"]),
    n=st.integers(1, 30),
    dims=st.integers(1, 70),
    width=st.integers(0, 40),
    k=st.integers(1, 12),
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_rerank_is_the_order_by_true_distance(metric, n, dims, width, k, threads, seed):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, dims), dtype=np.float32)
    queries = rng.standard_normal((5, dims), dtype=np.float32)
    candidates = rng.integers(-1, n, (5, width))

    distances, positions = kernels.rerank(
        queries, rows, candidates, k, metric=metric, threads=threads
    )

    for query, own, got, found in zip(queries, candidates, distances, positions, strict=True):
        there = own[own >= 0]
        want = np.sort(oracle.distance(metric, query, rows[there]))[:k]
        want = want**2 if metric == "l2" else want
        np.testing.assert_allclose(got[: len(want)], want, rtol=1e-5, atol=1e-5)
        assert set(found[: len(want)].tolist()) <= set(there.tolist())
        assert np.isnan(got[len(want) :]).all()
        assert (found[len(want) :] == -1).all()
