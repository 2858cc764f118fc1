"""The files of CIFAR-10's binary version: batches of records, each a label and the planes red, green and blue."""

SHAPE = (3, 32, 32)
RECORD_BYTES = 1 + 3 * 32 * 32
TRAIN_FILES = [f"data_batch_{i}.bin" for i in range(1, 6)]
TEST_FILES = ["test_batch.bin"]
SYNTHETIC = "SYNTHETIC"  # a folder with a file of this name has drawn images that are not CIFAR-10
