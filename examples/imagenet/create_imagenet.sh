#!/usr/bin/env sh
# Makes the two databases of ImageNet from folders of images and the lists data/ilsvrc12/train.txt and val.txt, which have a
# path and a label on each line. Set where the images are:
#
#   TRAIN_DATA_ROOT=/data/imagenet/train VAL_DATA_ROOT=/data/imagenet/val examples/imagenet/create_imagenet.sh
#
# RESIZE=false keeps images as they are, for those that have 256 x 256 pixels already. Flags such as --encoded are handed on.
set -e
cd "$(dirname "$0")/../.."

if [ -z "$PYTHON" ]; then
  PYTHON=python3
  if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi

DATA=data/ilsvrc12
EXAMPLE=examples/imagenet
SIZE="--resize_height=256 --resize_width=256"
if [ "${RESIZE:-true}" = false ]; then SIZE=""; fi

# convert SPLIT ROOT FLAGS...: the images of a list, in random order
convert() {
  split=$1
  root=${2%/}/
  shift 2
  if [ ! -d "$root" ]; then
    echo "error: there is no folder $root; set TRAIN_DATA_ROOT and VAL_DATA_ROOT to the folders of images" >&2
    exit 1
  fi
  echo "Creating $EXAMPLE/ilsvrc12_${split}_lmdb"
  rm -rf "$EXAMPLE/ilsvrc12_${split}_lmdb"
  # shellcheck disable=SC2086 # two flags or none
  "$PYTHON" -m pycaffe_lite convert_imageset $SIZE --shuffle "$@" \
    "$root" "$DATA/$split.txt" "$EXAMPLE/ilsvrc12_${split}_lmdb"
}

convert train "${TRAIN_DATA_ROOT:-data/imagenet/train}" "$@"
convert val "${VAL_DATA_ROOT:-data/imagenet/val}" "$@"
