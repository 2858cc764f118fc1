"""ImageData and WindowData: what their lists hold, which pixels come out, and what is said of bad lists and files."""

from __future__ import annotations

import gc
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pycaffe_lite import rng
from pycaffe_lite.data.images import resize
from pycaffe_lite.data.window_file import place_window
from pycaffe_lite.errors import CaffeError, DataError, NetError
from pycaffe_lite.proto.caffe_pb2 import TEST, TRAIN, BlobProto

from .test_data_layers import Reader, prefetch_threads, wait_until


def picture(i: int, height: int = 6, width: int = 8) -> np.ndarray:
    """Random pixels 3 x H x W, blue first."""
    return np.random.default_rng(i).integers(0, 256, (3, height, width), dtype=np.uint8)


def save(path: Path | str, pixels: np.ndarray) -> None:
    Image.fromarray(np.ascontiguousarray(pixels[::-1].transpose(1, 2, 0))).save(path)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Runs in an empty folder, and sees to it that no thread is left."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    if any("prefetch" in thread.name for thread in threading.enumerate()):
        gc.collect()
    deadline = time.monotonic() + 5
    while any("prefetch" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.002)


# ---- resizing -----------------------------------------------------------------------------------------------------


def slow_resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    out = np.empty((len(image), height, width))
    for i, j in np.ndindex(height, width):
        y = min(max((i + 0.5) * image.shape[1] / height - 0.5, 0), image.shape[1] - 1)
        x = min(max((j + 0.5) * image.shape[2] / width - 0.5, 0), image.shape[2] - 1)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, image.shape[1] - 1), min(left + 1, image.shape[2] - 1)
        for c in range(len(image)):
            above = image[c, top, left] * (1 - (x - left)) + image[c, top, right] * (x - left)
            below = image[c, bottom, left] * (1 - (x - left)) + image[c, bottom, right] * (x - left)
            out[c, i, j] = above * (1 - (y - top)) + below * (y - top)
    return out


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(1, 12))
def test_resize_interpolates_between_the_nearest_pixels(height, width, new_height, new_width):
    image = picture(height, height, width)
    got = resize(image, new_height, new_width)
    assert got.dtype == np.uint8
    assert abs(got - slow_resize(image, new_height, new_width)).max() <= 0.5 + 1e-4


def test_resize_keeps_an_image_of_the_same_size_and_does_not_average_on_the_way_down():
    image = picture(1)
    np.testing.assert_array_equal(resize(image, 6, 8), image)
    np.testing.assert_array_equal(resize(picture(1, 9, 9), 3, 3), picture(1, 9, 9)[:, 1::3, 1::3])
    assert resize(image, 0, 5).shape == (3, 0, 5)


# ---- ImageData ----------------------------------------------------------------------------------------------------


def write_list(*lines: str) -> None:
    Path("list.txt").write_text("".join(f"{line}\n" for line in lines))


def pictures(count: int, *sizes: tuple[int, int]) -> None:
    """0.png, 1.png, ... with labels 10, 11, ...; the sizes in turn."""
    for i in range(count):
        save(f"{i}.png", picture(i, *(sizes[i % len(sizes)] if sizes else ())))
    write_list(*(f"{i}.png {10 + i}" for i in range(count)))


def images(batch_size: int = 2, settings: str = "", transform: str = "", phase: int = TEST, **kwargs) -> Reader:
    return Reader(
        f'type: "ImageData" top: "data" top: "label" transform_param {{ {transform} }} '
        f'image_data_param {{ source: "list.txt" batch_size: {batch_size} {settings} }}',
        phase,
        **kwargs,
    )


def test_batches_come_in_the_order_of_the_list_and_wrap_around():
    pictures(3)
    reader = images()
    assert [blob.shape for blob in reader.top] == [(2, 3, 6, 8), (2,)]
    for k in range(4):
        batch = reader.next()
        at = [(2 * k + i) % 3 for i in range(2)]
        np.testing.assert_array_equal(batch["data"], [picture(i) for i in at])
        np.testing.assert_array_equal(batch["label"], [10 + i for i in at])


def test_gray_images():
    pictures(2)
    with Image.open("0.png") as image:
        gray = np.asarray(image.convert("L"))
    batch = images(settings="is_color: false").next()["data"]
    assert batch.shape == (2, 1, 6, 8)
    np.testing.assert_array_equal(batch[0, 0], gray)


def test_paths_as_they_are_written():
    Path("a b").mkdir()
    save("a b/x  y.png", picture(1))
    save("a bz.png", picture(2))
    write_list("/x  y.png 3", "", "  z.png\t -4  ", "   ")
    batch = images(settings='root_folder: "a b"').next()
    np.testing.assert_array_equal(batch["data"], [picture(1), picture(2)])
    assert batch["label"].tolist() == [3, -4]


def test_shuffle_permutes_every_round_and_a_seed_fixes_it():
    pictures(8)

    def rounds(seed: int) -> list[list[int]]:
        rng.set_seed(seed)
        reader = images(4, "shuffle: true")
        labels = reader.labels(8)
        return [labels[i : i + 8] for i in range(0, 32, 8)]

    first = rounds(1)
    assert all(sorted(labels) == list(range(10, 18)) for labels in first)
    assert len({tuple(labels) for labels in first}) == 4
    assert first == rounds(1) != rounds(2)


def test_rand_skip_leaves_out_some_at_the_start():
    pictures(4)
    starts = {images(1, "rand_skip: 3").labels(1)[0] for _ in range(40)}
    assert starts == {10, 11, 12}
    assert {images(1, "rand_skip: 4000000000").labels(1)[0] for _ in range(60)} == {10, 11, 12, 13}


def test_new_size():
    pictures(2, (6, 8), (5, 3))
    batch = images(settings="new_height: 4 new_width: 7").next()["data"]
    np.testing.assert_array_equal(batch, [resize(picture(0), 4, 7), resize(picture(1, 5, 3), 4, 7)])


def test_sizes_may_change_from_batch_to_batch():
    pictures(2, (6, 8), (5, 3))
    reader = images(1)
    assert [reader.next()["data"].shape for _ in range(3)] == [(1, 3, 6, 8), (1, 3, 5, 3), (1, 3, 6, 8)]


def test_with_a_crop_a_batch_takes_images_of_all_sizes():
    pictures(2, (6, 8), (5, 3))
    batch = images(transform="crop_size: 2 scale: 0.5 mean_value: 1 mean_value: 2 mean_value: 3").next()["data"]
    mean = np.array([1, 2, 3]).reshape(3, 1, 1)
    crops = [picture(0)[:, 2:4, 3:5], picture(1, 5, 3)[:, 1:3, 0:2]]
    np.testing.assert_array_equal(batch, [(crop - mean) / 2 for crop in crops])


def test_random_crops_and_flips_in_train():
    pictures(1)
    reader = images(1, transform="crop_size: 5 mirror: true", phase=TRAIN, dtype=np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(picture(0), (5, 5), axis=(1, 2)).transpose(1, 2, 0, 3, 4)
    known = [flip for window in windows.reshape(-1, 3, 5, 5) for flip in (window, window[:, :, ::-1])]
    seen = set()
    for _ in range(60):
        (crop,) = reader.next()["data"]
        seen |= {k for k, window in enumerate(known) if (window == crop).all()}
    assert len(known) == 16
    assert len(seen) > 8


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["0.png 1", "1.pngg 2"], r'list.txt:2: image "1.pngg": there is no such file \(did you mean "1.png"'),
        (["0.png 1", "", "broken.png 2"], r'list.txt:3: image "broken.png": the encoded image cannot be read'),
        (["0.png 1", "list.txt 2"], r'list.txt:2: image "list.txt": the encoded image cannot be read'),
        (["0.png 1", ". 2"], r'list.txt:2: image ".": there is no such file'),
        (["0.png 1", "/dev/zero 2"], r'list.txt:2: image "/dev/zero": there is no such file'),
        (["0.png 1", "a\0b 2"], "list.txt:2: .*there is no such file"),
        (["0.png 1", "1.png 2"], "list.txt:2: .*expected 3 x 6 x 8, as the first image of its batch, received 3 x 5 x 3"),
    ],
)
def test_images_that_cannot_be_used(lines, message):
    pictures(2, (6, 8), (5, 3))
    Path("broken.png").write_bytes(Path("0.png").read_bytes()[:60])
    write_list(*lines)
    reader = images()
    with pytest.raises(DataError, match=message):
        reader.next()
    write_list(*lines[-1:])
    if "first image" not in message:
        with pytest.raises(DataError, match=r"list.txt:1: image"):
            images()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], '"list.txt" is empty'),
        (["", "  "], '"list.txt" is empty'),
        (["0.png 1", "", "0.png"], 'list.txt:3: expected a path and an integer label, received "0.png"'),
        (["7"], 'list.txt:1: expected a path and an integer label, received "7"'),
        (["0.png x"], 'integer label, received "0.png x"'),
        (["0.png 1.5"], "integer label"),
        (["0.png 2147483648"], "integer label"),
        (["0.png " + "9" * 9999], "integer label"),
    ],
)
def test_bad_lists(lines, message):
    pictures(1)
    write_list(*lines)
    with pytest.raises(DataError, match=message):
        images()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("", r"a list of images in image_data_param\.source, received none"),
        ('source: "lists.txt"', r'no list of images "lists.txt" \(did you mean "list.txt"\?\); relative paths start at'),
        ('source: "."', 'no list of images "."'),
        ('source: "list.txt" new_height: 5', "both of new_height and new_width, or none, received 5 and 0"),
        ('source: "list.txt" new_width: 5', "received 0 and 5"),
        ('source: "list.txt" batch_size: 0', "batch_size to be at least 1, received 0"),
        ('source: "list.txt" new_height: 4294967295 new_width: 4294967295', "at most 2147483647 elements"),
        ('source: "list.txt" } data_param { prefetch: 0', r"data_param\.prefetch to be at least 1"),
        ('source: "list.txt" } data_param { prefetch: 2147483648', r"prefetch to be .* at most 1000, received 2147483648"),
        ('source: "list.txt" } transform_param { crop_size: 7', "list.txt:1: .*at least 7 x 7 to crop, received 6 x 8"),
        ('source: "list.txt" } transform_param { mean_value: 1 mean_value: 2', "expected 1 mean_value or 3"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    pictures(1)
    with pytest.raises(CaffeError, match=message):
        Reader(f'type: "ImageData" top: "data" top: "label" image_data_param {{ {settings} }}')


@pytest.mark.parametrize("type_", ["ImageData", "WindowData"])
def test_two_tops_are_needed(type_):
    with pytest.raises(NetError, match="expected 2 tops, received 1"):
        Reader(f'type: "{type_}" top: "data"')


def test_close_ends_the_thread():
    pictures(2)
    reader = images()
    reader.next()
    assert len(prefetch_threads()) == 1
    reader.layer.close()
    assert not prefetch_threads()
    with pytest.raises(DataError, match="closed"):
        reader.next()


# ---- WindowData: where a window goes ------------------------------------------------------------------------------

SIZE = (100, 100)


@pytest.mark.parametrize(
    ("box", "pad", "square", "flip", "place"),
    [
        ([40, 10, 59, 49], 0, False, True, (40, 10, 59, 49, 20, 20, 0, 0)),
        (
            [40, 40, 59, 59],
            5,
            False,
            False,
            (30, 30, 70, 70, 20, 20, 0, 0),
        ),  # twice as wide, and one pixel more, as in Caffe
        ([0, 40, 19, 59], 5, False, False, (0, 30, 30, 70, 20, 15, 0, 5)),  # 10 of 41 pixels are missing on the left
        ([0, 40, 19, 59], 5, False, True, (0, 30, 30, 70, 20, 15, 0, 0)),
        ([80, 40, 99, 59], 5, False, False, (70, 30, 99, 70, 20, 15, 0, 0)),
        ([80, 40, 99, 59], 5, False, True, (70, 30, 99, 70, 20, 15, 0, 5)),
        ([40, 0, 59, 19], 5, False, True, (30, 0, 70, 30, 15, 20, 5, 0)),
        ([40, 80, 59, 99], 5, False, True, (30, 70, 70, 99, 15, 20, 0, 0)),
        ([40, 40, 49, 59], 0, True, False, (35, 40, 55, 60, 20, 20, 0, 0)),
        ([40, 40, 59, 49], 0, True, False, (40, 35, 60, 55, 20, 20, 0, 0)),
        ([10, 10, 10, 10], 5, False, False, (10, 10, 12, 12, 20, 20, 0, 0)),  # halves go away from zero
    ],
)
def test_places(box, pad, square, flip, place):
    assert tuple(place_window(box, SIZE, 20, pad, square, flip)) == place


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 30), st.booleans(), st.booleans())
def test_a_place_is_always_within_image_and_crop(data, crop, square, flip):
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x2, y2 = data.draw(st.integers(x1, width - 1)), data.draw(st.integers(y1, height - 1))
    pad = data.draw(st.integers(0, (crop - 1) // 2))
    place = place_window([x1, y1, x2, y2], (height, width), crop, pad, square, flip)
    assert 0 <= place.x1 <= place.x2 < width
    assert 0 <= place.y1 <= place.y2 < height
    assert 0 <= place.top <= place.top + place.height <= crop
    assert 0 <= place.left <= place.left + place.width <= crop


@pytest.mark.parametrize("box", [[-1, 0, 9, 9], [0, 0, 100, 9], [0, 0, 9, 100], [5, 0, 4, 9], [0, 5, 9, 4]])
def test_windows_outside_of_their_image(box):
    with pytest.raises(DataError, match="is not in the image of 100 x 100 pixels"):
        place_window(box, SIZE, 20, 0, False, False)


# ---- WindowData: the layer ----------------------------------------------------------------------------------------


def write_windows(*images: tuple[str, list[str]]) -> None:
    blocks = [f"# {i}\n{path}\n3\n30\n40\n{len(rows)}\n" + "\n".join(rows) for i, (path, rows) in enumerate(images)]
    Path("windows.txt").write_text("\n".join(blocks) + "\n")


def windows(batch_size: int = 4, settings: str = "", transform: str = "crop_size: 10", **kwargs) -> Reader:
    return Reader(
        f'type: "WindowData" top: "data" top: "label" transform_param {{ {transform} }} '
        f'window_data_param {{ source: "windows.txt" batch_size: {batch_size} {settings} }}',
        **kwargs,
    )


@pytest.fixture
def two_images():
    """a.png has objects 7 (20 pixels wide) and 9 and background, b.png background and a window that is neither."""
    save("a.png", picture(1, 30, 40))
    save("b.png", picture(2, 30, 40))
    write_windows(
        ("a.png", ["7 0.9 5 3 24 22", "9 0.5 0 0 9 9", "3 0.1 2 2 11 11"]),
        ("b.png", ["0 0.2 10 5 19 14", "4 0.4 1 1 2 2"]),
    )


def crop_of(i: int, x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    return resize(picture(i, 30, 40)[:, y1 : y2 + 1, x1 : x2 + 1], 10, 10).astype(np.float32)


def test_background_comes_first_then_objects(two_images):
    reader = windows(8, "bg_threshold: 0.3 fg_fraction: 0.4")
    assert [blob.shape for blob in reader.top] == [(8, 3, 10, 10), (8,)]
    background = [crop_of(1, 2, 2, 11, 11), crop_of(2, 10, 5, 19, 14)]
    objects = {7: crop_of(1, 5, 3, 24, 22), 9: crop_of(1, 0, 0, 9, 9)}
    seen = set()
    for _ in range(10):
        batch = reader.next()
        assert batch["label"][:5].tolist() == [0] * 5
        for crop in batch["data"][:5]:
            (which,) = (k for k, known in enumerate(background) if (crop == known).all())
            seen.add(which)
        for crop, label in zip(batch["data"][5:], batch["label"][5:], strict=True):
            np.testing.assert_array_equal(crop, objects[int(label)])
            seen.add(int(label))
    assert seen == {0, 1, 7, 9}


def test_an_overlap_equal_to_the_threshold_is_an_object(two_images):
    write_windows(("a.png", ["7 0.3 5 3 24 22", "7 0.29999 0 0 9 9"]))
    assert windows(2, "fg_threshold: 0.3 bg_threshold: 0.3 fg_fraction: 0.5").labels(1) == [0, 7]


def test_mean_scale_mirror_and_a_random_seed(two_images):
    transform = "crop_size: 10 mirror: true scale: 0.5 mean_value: 1 mean_value: 2 mean_value: 3"
    mean = np.array([1, 2, 3]).reshape(3, 1, 1)

    def run(seed: int) -> np.ndarray:
        rng.set_seed(seed)
        return windows(8, "fg_threshold: 0.9 fg_fraction: 1 scale: 3", transform, phase=TEST).next()["data"]

    first = run(1)
    straight = (crop_of(1, 5, 3, 24, 22) - mean) * 1.5
    flips = [(crop == straight[:, :, ::-1]).all() for crop in first]
    assert 0 < sum(flips) < 8
    assert all(flip or (crop == straight).all() for crop, flip in zip(first, flips, strict=True))
    np.testing.assert_array_equal(first, run(1))
    assert (first != run(2)).any()


@pytest.mark.parametrize("flip", [False, True])
def test_what_lies_beyond_the_image_is_zero_whatever_the_mean(two_images, flip):
    write_windows(("a.png", ["7 1 0 10 7 17"]))
    values = np.arange(3 * 14 * 12, dtype=np.float32).reshape(3, 14, 12)
    Path("mean.binaryproto").write_bytes(
        BlobProto(num=1, channels=3, height=14, width=12, data=values.ravel()).SerializeToString()
    )
    transform = f'crop_size: 8 mean_file: "mean.binaryproto" mirror: {str(flip).lower()}'
    mean = values[:, 2:10, 2:10]  # Caffe centres on both axes by the width
    place = place_window([0, 10, 7, 17], (30, 40), 8, 2, False, False)
    assert (place.x1, place.left, place.width) == (0, 2, 6)
    pixels = resize(picture(1, 30, 40)[:, place.y1 : place.y2 + 1, : place.x2 + 1], 8, 6).astype(np.float32)
    straight, flipped = np.zeros((3, 8, 8), np.float32), np.zeros((3, 8, 8), np.float32)
    straight[:, :, 2:] = pixels - mean[:, :, 2:]
    flipped[:, :, :6] = pixels[:, :, ::-1] - mean[:, :, :6]
    crops = windows(16, "context_pad: 2 fg_fraction: 1", transform).next()["data"]
    seen = {bool((crop == flipped).all()) for crop in crops if (crop == flipped).all() or (crop == straight).all()}
    assert seen == ({False, True} if flip else {False})
    assert all((crop == straight).all() or (flip and (crop == flipped).all()) for crop in crops)


def test_the_words_of_a_list_may_stand_on_any_lines(two_images):
    Path("windows.txt").write_text("# 0 a.png 3 30 40 2 7 0.9 5 3\n24 22\n\n3 0.1 2 2 11 11 # 1 b.png\n3 30 40 0\n\n")
    assert windows(4).labels(1) == [0, 0, 0, 7]


def test_windows_are_read_ahead_by_a_thread_that_ends(two_images):
    reader = windows(2, "", "crop_size: 10")
    assert not prefetch_threads()
    reader.next()
    assert len(prefetch_threads()) == 1
    reader.layer.close()
    assert not prefetch_threads()
    reader = windows(2, "fg_fraction: 0.5")
    Path("a.png").write_bytes(b"damaged since")
    with pytest.raises(DataError, match=r'windows.txt:1: image "a.png": the encoded image cannot be read'):
        reader.labels(20)
    assert wait_until(lambda: not prefetch_threads())
    with pytest.raises(NetError, match="at most 1000, received 4294967295"):
        windows(2, "} data_param { prefetch: 4294967295")


def test_cached_files_are_read_once(two_images):
    Path("in").mkdir()
    shutil.move("a.png", "in/a.png")
    write_windows(("a.png", ["7 0.9 5 3 24 22"]))
    settings = 'root_folder: "in/" fg_fraction: 1'
    layers = [windows(1, f"{settings} {more}").layer for more in ("cache_images: true", "")]
    cached, uncached = (layer.new_reader(layer.rng) for layer in layers)
    expected = cached.read().arrays[0]
    np.testing.assert_array_equal(uncached.read().arrays[0], expected)
    shutil.rmtree("in")
    np.testing.assert_array_equal(cached.read().arrays[0], expected)
    with pytest.raises(DataError, match=r'windows.txt:1: image "a.png": there is no such file'):
        uncached.read()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", '"windows.txt" is empty'),
        ("\n \n", '"windows.txt" is empty'),
        (
            "# 0\na.png\n3\n30\n40\n2\n7 0.9 5 3 24 22\n",
            "windows.txt:7: the file ends too early: expected 12 words, received 6",
        ),
        ("# 0\na.png\n3", "windows.txt:3: the file ends too early"),
        ("# 0\na.png\n3\n30\n40\n99999999999999999999\n1", "windows.txt:7: the file ends too early"),
        ("# 0\na.png\n3\n30\n40\n" + "9" * 9999, "windows.txt:6: "),
        ("a.png\n3\n30\n40\n1\n1 1 1 1 1 1", 'windows.txt:6: expected "# index", a path'),
        ("# 0\na.png\n3\n30\n40\n-1\n", 'expected "# index", a path'),
        (
            "# 0\na.png\n3\n30\n40\n0\n# 1\nin/my dog.png\n3\n30\n40\n0\n",
            'windows.txt:8: expected "# index", a path without spaces, .*, received "in/my dog.png"',
        ),
        ("# 0\na 3 b.png\n3\n30\n40\n0\n", r'windows.txt:2: .*, a path without spaces, .*, received "a 3 b.png"'),
        ("# 0\na b c d e f\n3\n30\n40\n0\n", r'windows.txt:2: .*, a path without spaces, .*, received "a b c d e f"'),
        (
            "# 0 my dog.png 3 30 40 0\n",
            r'windows.txt:1: .*, a path without spaces, .*, received "# 0 my dog',
        ),
        ("# 0\na.png\n1\n30\n40\n0\n", "expected images of 3 channels, received 1"),
        ("# 0\na.png\n3\n30\n40\n1\n7 x 5 3 24 22\n", "windows.txt:7: .*could not convert"),
        ("# 0\na.png\n3\n30\n40\n1\n7 0.9 5.5 3 24 22\n", "windows.txt:7: .*all integers but the overlap"),
        ("# 0\na.png\n3\n30\n40\n1\n7 nan 5 3 24 22\n", "all integers but the overlap"),
        ("# 0\na.png\n3\n30\n40\n1\n7 1 5 3 99999999999 22\n", "all integers but the overlap"),
        ("# 0\na.png\n3\n30\n40\n1\n7 0.1 5 3 24 22\n", "expected windows of objects for each batch, there are none"),
        ("# 0\na.png\n3\n30\n40\n1\n7 0.9 5 3 24 22\n", "expected windows of background for each batch"),
        ("# 0\na.png\n3\n30\n40\n2\n0 0.9 5 3 24 22\n0 0 5 3 24 22\n", "windows.txt:1: .*at least 1, received 0"),
    ],
)
def test_bad_lists_of_windows(two_images, text, message):
    Path("windows.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        windows()


@pytest.mark.parametrize(
    ("path", "row", "message"),
    [
        ("a.png", "7 1 30 0 40 9", r'windows.txt:1: image "a.png": the window \[30, 0, 40, 9\] .* image of 40 x 30 pixels'),
        ("c.png", "7 1 0 0 9 9", r'windows.txt:1: image "c.png": there is no such file'),
        ("broken.png", "7 1 0 0 9 9", r'windows.txt:1: image "broken.png": the encoded image cannot be read'),
    ],
)
def test_windows_that_cannot_be_cut_out(two_images, path, row, message):
    Path("broken.png").write_bytes(Path("a.png").read_bytes()[:60])
    write_windows((path, [row]))
    reader = windows(1, "fg_fraction: 1")
    with pytest.raises(DataError, match=message):
        reader.next()


def mean_file(*shape: int) -> str:
    channels, height, width = shape
    blob = BlobProto(num=1, channels=channels, height=height, width=width, data=[0] * (channels * height * width))
    Path("mean.binaryproto").write_bytes(blob.SerializeToString())
    return 'crop_size: 10 mean_file: "mean.binaryproto"'


@pytest.mark.parametrize(
    ("batch_size", "settings", "transform", "message"),
    [
        (0, "", "crop_size: 10", r"crop_size of at least 1, received 0 and 10"),
        (4, "", "", r"crop_size of at least 1, received 4 and 0"),
        (4, 'crop_mode: "sqare"', "crop_size: 10", r'"warp" or "square", received "sqare" \(did you mean "square"'),
        (4, "context_pad: 5", "crop_size: 10", "context_pad below half of crop_size, 10, received 5"),
        (4, "fg_fraction: 1.5", "crop_size: 10", "fg_fraction from 0 to 1, received 1.5"),
        (4, "fg_fraction: nan", "crop_size: 10", "fg_fraction from 0 to 1, received nan"),
        (4, "", "crop_size: 4294967295", "at most 2147483647 elements"),
        (4, "", "crop_size: 10 mean_value: 1 mean_value: 2", "expected 1 mean_value or 3"),
        (4, "", 'crop_size: 10 mean_value: 1 mean_file: "x"', "received both"),
        (4, "", 'crop_size: 10 mean_file: "x"', 'mean_file .*"?x'),
    ],
)
def test_settings_of_windows_that_make_no_sense(two_images, batch_size, settings, transform, message):
    with pytest.raises(CaffeError, match=message):
        windows(batch_size, settings, transform)


@pytest.mark.parametrize("shape", [(1, 10, 10), (3, 9, 10), (3, 10, 9), (3, 10, 14)])
def test_mean_files_that_do_not_cover_the_crop(two_images, shape):
    with pytest.raises(NetError, match=r'mean file "mean.binaryproto" to cover 3 x 10 x 10'):
        windows(4, "", mean_file(*shape))


def test_lists_of_windows_that_are_not_there():
    with pytest.raises(DataError, match=r'no list of images "windows.txt"'):
        windows()
    with pytest.raises(NetError, match=r"window_data_param\.source, received none"):
        Reader('type: "WindowData" top: "d" top: "l" transform_param { crop_size: 1 } window_data_param { batch_size: 1 }')
