"""Decoding of image files. The numbers are OpenCV's: cv2.imread of opencv-python-headless 4.14 for the same bytes."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

import pycaffe_lite as caffe
from pycaffe_lite import cli
from pycaffe_lite.data.database_writer import create_database
from pycaffe_lite.data.image_file import decode_image, is_gray
from pycaffe_lite.errors import DataError
from pycaffe_lite.proto.caffe_pb2 import Datum

from .test_data_layers import Reader


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# ---- JPEG files without their end: 8 x 32 pixels, which are four blocks ---------------------------------------------

JPEGS = {
    "baseline": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5a"
        "YVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAAR"
        "CAAIACADAREAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAwX/xAAfEAACAQIHAAAAAAAAAAAAAAAAAQIDcSEiMTJygcH/xAAXAQEBAQEA"
        "AAAAAAAAAAAAAAAFAgQG/8QAIhEAAgECBQUAAAAAAAAAAAAAAAIDBMEBISIxcSMygbLR/9oADAMBAAIRAxEAPwCg1kVw6GHorzbE5CBMwKi1"
        "5FND7fRunQGqt3Rpkh7/ABYbpk2AksZ28KSHU/FhynTY/9k="
    ),
    "progressive": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5a"
        "YVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wgAR"
        "CAAIACADAREAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAAAgME/8QAFwEBAQEBAAAAAAAAAAAAAAAABAEDBf/aAAwDAQACEAMQAAAB0G48"
        "64atFd//xAAWEAEBAQAAAAAAAAAAAAAAAAAAARD/2gAIAQEAAQUCVc//xAAXEQADAQAAAAAAAAAAAAAAAAAAAQMC/9oACAEDAQE/AcImiaJo"
        "/8QAGhEAAwADAQAAAAAAAAAAAAAAAAECISIxsf/aAAgBAgEBPwGI0Q49Kjooyz//xAAUEAEAAAAAAAAAAAAAAAAAAAAg/9oACAEBAAY/Ah//"
        "xAAXEAEBAQEAAAAAAAAAAAAAAAAAQQHB/9oACAEBAAE/IY6U2v/aAAwDAQACAAMAAAAQep//xAAXEQADAQAAAAAAAAAAAAAAAAAAEDEh/9oA"
        "CAEDAQE/EN0zIn//xAAaEQACAgMAAAAAAAAAAAAAAAAAwQGRgbHw/9oACAECAQE/ELBScMmiipR//8QAGhAAAgIDAAAAAAAAAAAAAAAAAAEh"
        "cTGxwf/aAAgBAQABPxBqNiZC6CTXh//Z"
    ),
    "gray": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5a"
        "YVpQYEpRUk//wAALCAAIACABAREA/8QAFQABAQAAAAAAAAAAAAAAAAAAAwX/xAAfEAACAQIHAAAAAAAAAAAAAAAAAQIDcSEiMTJygcH/2gAI"
        "AQEAAD8AoNZFcCoteQNVbugJLGdvD//Z"
    ),
    "CMYK": (
        "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwANCQoLCggNCwoLDg4NDxMgFRMSEhMnHB4XIC4pMTAuKS0sMzpKPjM2RjcsLUBXQUZMTlJTUjI+WmFa"
        "UGBKUVJP/8AAFAgACAAgBEMRAE0RAFkRAEsRAP/EABkAAAMBAQEAAAAAAAAAAAAAAAAFBgIEB//EACYQAAEEAQIEBwAAAAAAAAAAAAADBCEx"
        "BQIiASREwiUyNUVTssP/2gAOBEMATQBZAEsAAD8AiGKFQXbxW5FzDH+CtNvUafrqPTiiYoVAheK3Jlzj/Pt9x1d4FGxQqBE8VuTqyGP9R2/B"
        "2AUTFCoELxW5MJY/m8pt6f8ALgB//9k="
    ),
}
COLORS = [[101, 235, 23], [109, 206, 62], [152, 170, 101], [165, 144, 136], [52, 114, 160], [59, 86, 201]]
GRAYS = [156, 152, 147, 144, 121, 117]
INKS = [[103, 234, 28], [125, 205, 62], [152, 174, 97], [178, 145, 132], [44, 114, 168], [68, 83, 203]]
COLORS_540 = [[101, 235, 23], [107, 204, 60], [151, 169, 100], [146, 140, 129], [73, 119, 167], [76, 86, 204]]
CUTS = {
    # kind, bytes that are left: pixels 2, 7, 12, ... of line 3, in colour (blue, green, red) and in gray
    ("baseline", 359): (COLORS, GRAYS),
    ("baseline", 358): (COLORS, GRAYS),
    ("baseline", 357): (COLORS, GRAYS),
    ("baseline", 326): ([*COLORS[:2], [99, 248, 0], *[[128] * 3] * 3], [156, 152, 147, 128, 128, 128]),
    ("progressive", 591): (COLORS, GRAYS),
    ("progressive", 589): (COLORS, GRAYS),
    ("progressive", 540): (COLORS_540, [156, 150, 146, 137, 128, 120]),
    ("gray", 186): ([[value] * 3 for value in GRAYS], GRAYS),
    ("gray", 185): ([[value] * 3 for value in GRAYS], GRAYS),
    ("gray", 172): ([[value] * 3 for value in (156, 152, 143, 128, 128, 128)], [156, 152, 143, 128, 128, 128]),
    ("CMYK", 266): (INKS, [157, 153, 148, 145, 122, 117]),
    ("CMYK", 264): (INKS, [157, 153, 148, 145, 122, 117]),
    ("CMYK", 221): ([*INKS[:2], [96, 174, 97], *[[65] * 3] * 3], [157, 153, 142, 65, 65, 65]),
}


def jpeg(kind: str, size: int | None = None) -> bytes:
    return base64.b64decode(JPEGS[kind])[:size]


@pytest.mark.parametrize(("kind", "size"), CUTS)
def test_jpegs_without_their_end(kind, size):
    warnings: list[str] = []
    color = decode_image(jpeg(kind, size), True, "a.jpg", warnings.append)
    gray = decode_image(jpeg(kind, size), False, "a.jpg", warnings.append)
    assert (color.shape, gray.shape) == ((3, 8, 32), (1, 8, 32))
    expected_color, expected_gray = CUTS[kind, size]
    np.testing.assert_allclose(color[:, 3, 2::5].T, expected_color, atol=1)  # releases of libjpeg may round differently
    np.testing.assert_allclose(gray[0, 3, 2::5], expected_gray, atol=1)
    own = decode_image(jpeg(kind, size), None, "a.jpg", warnings.append)
    np.testing.assert_array_equal(own, gray if kind == "gray" else color)
    is_whole = size == len(jpeg(kind))
    line = "a.jpg: the JPEG file ends too early; what is missing of the image is filled in, as by OpenCV"
    assert warnings == ([] if is_whole else [line] * 3)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def lines_about_cuts(capsys) -> list[str]:
    return [line.split("] ", 1)[1] for line in capsys.readouterr().err.splitlines() if "ends too early" in line]


def test_the_log_names_file_and_record_once(capsys):
    Path("cut.jpg").write_bytes(jpeg("baseline", 326))
    Path("list.txt").write_text("cut.jpg 0\n")
    Path("windows.txt").write_text("# 0\ncut.jpg\n3\n8\n32\n1\n1 1 0 0 7 7\n")
    record = Datum(encoded=True, data=jpeg("baseline", 326)).SerializeToString()
    with create_database("db", "lmdb") as writer:
        writer.put(b"k", record)
    readers = {
        'list.txt:1: image "cut.jpg": ': 'type: "ImageData" image_data_param { source: "list.txt" }',
        'windows.txt:1: image "cut.jpg": ': 'type: "WindowData" transform_param { crop_size: 8 } '
        'window_data_param { source: "windows.txt" batch_size: 1 fg_fraction: 1 }',
        'db: record "k": ': 'type: "Data" data_param { source: "db" batch_size: 2 }',
    }
    for name, text in readers.items():
        reader = Reader(f'top: "data" top: "label" {text}')
        assert reader.next()["data"][0, :, 3, 2].tolist() == pytest.approx(COLORS[0], abs=1)
        reader.next()
        reader.layer.close()
        lines = lines_about_cuts(capsys)
        assert [line[: len(name)] for line in lines] == [name], lines


@pytest.mark.parametrize("flags", [[], ["--encoded"], ["--gray", "--encoded"], ["--encode_type=png"]])
def test_tools_read_jpegs_without_their_end(flags, capsys):
    Path("cut.jpg").write_bytes(jpeg("baseline", 326))
    Path("list.txt").write_text("cut.jpg 0\n")
    assert cli.main(["convert_imageset", *flags, "./", "list.txt", "db"]) == 0
    (line,) = lines_about_cuts(capsys)
    assert line.startswith('list.txt:1: image "./cut.jpg": ')
    assert cli.main(["compute_image_mean", "db", "mean.binaryproto"]) == 0
    mean = caffe.proto.caffe_pb2.BlobProto.FromString(Path("mean.binaryproto").read_bytes())
    assert caffe.io.blobproto_to_array(mean).shape == (1, 1 if "--gray" in flags else 3, 8, 32)
    named = [line[:28] for line in lines_about_cuts(capsys)]
    assert named == (['db: record "00000000_cut.jpg'] if flags == ["--encoded"] else [])


def test_load_image_reads_jpegs_without_their_end(capsys):
    Path("cut.jpg").write_bytes(jpeg("baseline", 326))
    image = caffe.io.load_image("cut.jpg")
    np.testing.assert_allclose(image[3, 2::5, ::-1] * 255, CUTS["baseline", 326][0], atol=1)
    assert lines_about_cuts(capsys)[0].startswith("cut.jpg: ")


def test_resize_and_crop_images_reads_jpegs_without_their_end(capsys):
    Path("in").mkdir()
    Path("in/cut.jpg").write_bytes(jpeg("baseline", 326))
    words = ["--input_folder=in", "--output_folder=out", "--output_side_length=4", "--num_clients=1"]
    assert cli.main(["resize_and_crop_images", *words]) == 0
    assert lines_about_cuts(capsys)[0].startswith('image "in/cut.jpg": ')


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (jpeg("baseline", 200), "cannot be read"),  # its header is cut, which OpenCV refuses too
        (b"", "the encoded image cannot be read: it is empty"),
        (b"GIF89a no picture", "it is damaged, or none of JPEG, PNG, BMP, WEBP, PPM, TIFF; it begins with b'GIF89a no pi'"),
    ],
)
def test_files_that_are_no_images(data, message):
    with pytest.raises(DataError, match=message) as caught:
        decode_image(data, True)
    assert "BytesIO" not in str(caught.value)
    Path("file").write_bytes(data)
    with pytest.raises(DataError, match="file cannot be read as an image") as caught:
        caffe.io.load_image("file")
    assert "BytesIO" not in str(caught.value)


def save(pixels: np.ndarray, format_: str, mode: str | None = None, **options) -> bytes:
    file, image = io.BytesIO(), Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, format_, **options)
    return file.getvalue()


RGB = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 200, 77], [250, 128, 3], [1, 2, 3]]], np.uint8)


@pytest.mark.parametrize("format_", ["PNG", "BMP", "PPM", "WEBP", "TIFF"])
def test_other_formats_without_their_end_are_refused_as_by_opencv(format_):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    data = save(noise, format_)
    with pytest.raises(DataError, match="cannot be read"):
        decode_image(data[: len(data) // 2], True)


# ---- modes: images of 2 x 3 pixels ---------------------------------------------------------------------------------

ALPHA = np.array([[0, 128, 255], [7, 255, 200]], np.uint8)
GRAY = np.array([[0, 100, 255], [7, 255, 200]], np.uint8)
BITS = np.array([[0, 255, 0], [255, 255, 0]], np.uint8)
WIDE = np.array([[0xB923, 0x00FF, 0x0100], [0xFFFF, 0x80FF, 0x7F80]], np.uint16)
WIDE_RGB = np.stack([WIDE, WIDE[::-1], WIDE[:, ::-1]], -1)
PHOTOMETRIC = 262
MODE_OF_PNG = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels


def wide_png(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits per channel, which Pillow writes only in gray."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, MODE_OF_PNG[channels], 0, 0, 0)
    lines = b"".join(b"\0" + line.tobytes() for line in pixels.astype(">u2"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def palette(format_: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(RGB).quantize(8).save(file, format_, **options)
    return file.getvalue()


def inks(format_: str) -> bytes:
    file = io.BytesIO()
    Image.frombytes("CMYK", (3, 2), np.dstack([RGB, ALPHA]).tobytes()).save(file, format_)
    return file.getvalue()


def white_is_zero(pixels: np.ndarray) -> bytes:
    """A gray TIFF in which 0 means white."""
    data = save(pixels, "TIFF")
    entry = struct.pack("<HHI", PHOTOMETRIC, 3, 1)
    assert data.count(entry + b"\1\0\0\0") == 1
    return data.replace(entry + b"\1\0\0\0", entry + b"\0\0\0\0")


BLUE_FIRST = [[0, 0, 255], [0, 255, 0], [255, 0, 0], [77, 200, 10], [3, 128, 250], [3, 2, 1]]
HIGH = [185, 0, 1, 255, 128, 127]
HIGH_COLORS = [[1, 255, 185], [0, 128, 0], [185, 127, 1], [127, 185, 255], [128, 0, 128], [255, 1, 127]]
OF_INKS = [[255, 255, 0], [127, 0, 127], [0, 0, 0], [173, 53, 238], [0, 0, 0], [54, 54, 54]]
ALPHA_TIMES = [[0, 0, 0], [0, 128, 0], [255, 0, 0], [2, 5, 0], [3, 128, 250], [2, 2, 1]]

# name: file, pixels with IMREAD_COLOR (one number: three equal ones), pixels with IMREAD_GRAYSCALE
FILES = {
    "16 bits, PNG": (save(WIDE, "PNG"), HIGH, HIGH),
    "16 bits, TIFF": (save(WIDE, "TIFF"), HIGH, HIGH),
    "16 bits, big-endian TIFF": (save(WIDE.astype(">u2"), "TIFF"), HIGH, HIGH),
    "16 bits, white is 0, TIFF": (white_is_zero(WIDE), [70, 255, 254, 0, 127, 128], [70, 255, 254, 0, 127, 128]),
    "16 bits, PGM": (b"P5\n3 2\n65535\n" + WIDE.astype(">u2").tobytes(), HIGH, HIGH),
    "16 bits with colours, PNG": (wide_png(WIDE_RGB), HIGH_COLORS, [205, 76, 96, 199, 53, 67]),
    "16 bits with alpha, PNG": (wide_png(np.dstack([WIDE_RGB, WIDE])), HIGH_COLORS, [205, 76, 96, 199, 53, 67]),
    "16 bits, gray with alpha, PNG": (wide_png(np.stack([WIDE, WIDE[::-1]], -1)), HIGH, HIGH),
    "alpha, PNG": (save(np.dstack([RGB, ALPHA]), "PNG"), BLUE_FIRST, [76, 149, 29, 129, 150, 1]),
    "alpha, BMP": (save(np.dstack([RGB, ALPHA]), "BMP"), BLUE_FIRST, [76, 150, 29, 129, 150, 2]),
    "alpha, WebP": (
        save(np.dstack([RGB, ALPHA]), "WEBP", lossless=True, exact=True),
        BLUE_FIRST,
        [76, 150, 29, 129, 150, 2],
    ),
    "alpha, TIFF": (save(np.dstack([RGB, ALPHA]), "TIFF"), ALPHA_TIMES, [0, 75, 29, 3, 150, 2]),
    "gray with alpha, PNG": (save(np.dstack([GRAY, ALPHA]), "PNG"), [0, 100, 255, 7, 255, 200], [0, 100, 255, 7, 255, 200]),
    "gray with alpha, TIFF": (save(np.dstack([GRAY, ALPHA]), "TIFF"), GRAY.ravel().tolist(), GRAY.ravel().tolist()),
    "gray, white is 0, TIFF": (white_is_zero(GRAY), [255, 155, 0, 248, 0, 55], [255, 155, 0, 248, 0, 55]),
    "palette, PNG": (palette("PNG"), BLUE_FIRST, [76, 149, 29, 129, 150, 1]),
    "palette, BMP": (palette("BMP"), BLUE_FIRST, [76, 150, 29, 129, 150, 2]),
    "palette, TIFF": (palette("TIFF"), BLUE_FIRST, [76, 150, 29, 129, 150, 2]),
    "palette with a transparent colour, PNG": (palette("PNG", transparency=0), BLUE_FIRST, [76, 149, 29, 129, 150, 1]),
    "palette with alpha, PNG": (palette("PNG", transparency=b"\0\x80\xff"), BLUE_FIRST, [76, 149, 29, 129, 150, 1]),
    "a transparent colour, PNG": (save(RGB, "PNG", transparency=(255, 0, 0)), BLUE_FIRST, [76, 149, 29, 129, 150, 1]),
    "1 bit, PNG": (save(BITS, "PNG", "1"), [0, 255, 0, 255, 255, 0], [0, 255, 0, 255, 255, 0]),
    "1 bit, BMP": (save(BITS, "BMP", "1"), [0, 255, 0, 255, 255, 0], [0, 255, 0, 255, 255, 0]),
    "1 bit, fax, TIFF": (save(BITS, "TIFF", "1", compression="group4"), [0, 255, 0, 255, 255, 0], [0, 255, 0, 255, 255, 0]),
    "CMYK, TIFF": (inks("TIFF"), OF_INKS, [179, 52, 0, 122, 0, 54]),
    "colours, TIFF": (save(RGB, "TIFF"), BLUE_FIRST, [76, 150, 29, 129, 150, 2]),
    "colours, packed TIFF": (save(RGB, "TIFF", compression="tiff_lzw"), BLUE_FIRST, [76, 150, 29, 129, 150, 2]),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FILES)
def test_modes(name):
    data, color, gray = FILES[name]
    expected = np.array([np.broadcast_to(pixel, 3) for pixel in color], np.uint8).T.reshape(3, 2, 3)
    np.testing.assert_array_equal(decode_image(data, True), expected)
    # From colours, OpenCV's decoder of PNG rounds gray down, and its others to the nearest.
    np.testing.assert_allclose(decode_image(data, False), np.reshape(gray, (1, 2, 3)), atol=int(color != gray))


def test_unchanged_keeps_alpha_and_refuses_16_bits_as_caffe():
    assert decode_image(FILES["alpha, PNG"][0]).shape == (4, 2, 3)
    assert decode_image(FILES["gray with alpha, PNG"][0]).shape == (4, 2, 3)
    assert decode_image(FILES["palette with alpha, PNG"][0]).shape == (4, 2, 3)
    assert decode_image(FILES["1 bit, PNG"][0]).shape == (1, 2, 3)
    for name in ("16 bits, PNG", "16 bits, TIFF"):
        with pytest.raises(DataError, match=r"8 bits per channel, received 16; with force_color or force_gray"):
            decode_image(FILES[name][0])


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("color", [True, False, None])
def test_32_bits_are_refused_as_by_opencv(dtype, color):
    with pytest.raises(DataError, match="8 or 16 bits per channel, received 32"):
        decode_image(save(GRAY.astype(dtype), "TIFF"), color)


def test_which_files_are_gray():
    gray = {"1 bit, PNG", "1 bit, BMP", "1 bit, fax, TIFF", "gray, white is 0, TIFF"}
    assert {name for name, (data, _, _) in FILES.items() if is_gray(data)} == gray
    assert [kind for kind in JPEGS if is_gray(jpeg(kind))] == ["gray"]


# ---- layers and tools ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["16 bits, PNG", "16 bits, TIFF", "palette with alpha, PNG", "CMYK, TIFF", "1 bit, fax, TIFF"]
)
@pytest.mark.parametrize("is_color", ["true", "false"])
def test_image_data_and_records_agree(name, is_color):
    data = FILES[name][0]
    Path("image").write_bytes(data)
    Path("list.txt").write_text("image 0\n")
    with create_database("db", "lmdb") as writer:
        writer.put(b"k", Datum(encoded=True, data=data).SerializeToString())
    force = "force_color" if is_color == "true" else "force_gray"
    for text in (
        f'type: "ImageData" image_data_param {{ source: "list.txt" is_color: {is_color} }}',
        f'type: "Data" data_param {{ source: "db" batch_size: 1 }} transform_param {{ {force}: true }}',
    ):
        reader = Reader(f'top: "data" top: "label" {text}')
        np.testing.assert_array_equal(reader.next()["data"][0], decode_image(data, is_color == "true"))
        reader.layer.close()


def records(path: str) -> list[Datum]:
    with caffe.data.database.open_database(path) as database:
        return [Datum.FromString(value) for _, value in database.cursor().take(database.count())]


@pytest.mark.parametrize("flags", [["--encoded"], ["--encode_type=png"]])
def test_gray_and_encoded_records_have_one_channel(flags):
    names = ["alpha, PNG", "palette, PNG", "16 bits, PNG", "gray with alpha, PNG", "1 bit, PNG", "a transparent colour, PNG"]
    for i, name in enumerate(names):
        Path(f"{i}.png").write_bytes(FILES[name][0])
    Path("list.txt").write_text("".join(f"{i}.png {i}\n" for i in range(len(names))))
    assert cli.main(["convert_imageset", "--gray", *flags, "./", "list.txt", "db"]) == 0
    for name, datum in zip(names, records("db"), strict=True):
        assert datum.encoded
        np.testing.assert_array_equal(decode_image(datum.data), decode_image(FILES[name][0], False))
        assert (datum.data == FILES[name][0]) == (name == "1 bit, PNG")


def test_gray_and_encoded_keep_the_format_of_the_file():
    files = {"c.jpg": jpeg("baseline"), "g.jpeg": jpeg("gray"), "t.tif": FILES["colours, TIFF"][0]}
    for name, data in files.items():
        Path(name).write_bytes(data)
    Path("list.txt").write_text("".join(f"{name} 0\n" for name in files))
    assert cli.main(["convert_imageset", "--gray", "--encoded", "./", "list.txt", "db"]) == 0
    color, gray, tiff = records("db")
    assert gray.data == files["g.jpeg"]
    assert [Image.open(io.BytesIO(datum.data)).format for datum in (color, tiff)] == ["JPEG", "TIFF"]
    assert [decode_image(datum.data).shape[0] for datum in (color, gray, tiff)] == [1, 1, 1]


def test_encoded_alone_keeps_every_file_as_caffe_does():
    files = {"c.jpg": jpeg("baseline"), "g.jpg": jpeg("gray"), "w.png": FILES["16 bits, PNG"][0]}
    for name, data in files.items():
        Path(name).write_bytes(data)
    Path("list.txt").write_text("".join(f"{name} 0\n" for name in files))
    assert cli.main(["convert_imageset", "--encoded", "./", "list.txt", "db"]) == 0
    assert [datum.data for datum in records("db")] == list(files.values())


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("color", [False, True])
def test_a_jpeg_may_be_cut_anywhere_behind_the_head_of_its_first_scan(progressive, color):
    """Also within a table, or the head of a scan: what came before is read. OpenCV refuses some of these files."""
    ramp = np.add.outer(np.arange(24), np.arange(20)).astype(np.uint8)
    pixels = np.stack([ramp, 2 * ramp, 255 - ramp], axis=2) if color else ramp
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90, progressive=progressive)
    data, warnings = file.getvalue(), []
    whole = decode_image(data, True)
    ends = range(data.index(b"\xff\xda") + 14, len(data) - 1)
    for end in ends:
        image = decode_image(data[:end], True, "a.jpg", warnings.append)
        assert image.shape == whole.shape
    assert len(warnings) == len(ends)
    assert abs(decode_image(data[:-3], True, warn=warnings.append).astype(int) - whole).mean() < 8
