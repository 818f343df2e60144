"""What is in a BIDS dataset, and how does a derivative of it look?  Names and small text files; never a voxel.

A run over a dataset:

1. `read_dataset` and `parse_filter`, then `bids_scans`: which images, and what their outputs are called;
2. `prepare`: the folder becomes a derivative;
3. for each scan, of `image_at` its ``name``: `metadata` and `sidecar` (the JSON beside its output), `companions` and
   `copy_companions` (gradients).
"""

from conv3dt.bids.choose import BidsFilter, bids_scans, choose, parse_filter
from conv3dt.bids.dataset import Dataset, Image, image_at, read_dataset
from conv3dt.bids.derivative import check_out_dir, copy_companions, prepare
from conv3dt.bids.description import dataset_description
from conv3dt.bids.inherit import Companion, companions, metadata
from conv3dt.bids.names import Name, output_name, parse_name, scale_label
from conv3dt.bids.sidecars import Upsampling, sidecar, upsampling_of

__all__ = [
    "BidsFilter",
    "Companion",
    "Dataset",
    "Image",
    "Name",
    "Upsampling",
    "bids_scans",
    "check_out_dir",
    "choose",
    "companions",
    "copy_companions",
    "dataset_description",
    "image_at",
    "metadata",
    "output_name",
    "parse_filter",
    "parse_name",
    "prepare",
    "read_dataset",
    "scale_label",
    "sidecar",
    "upsampling_of",
]
