"""Blob: numpy views that are the memory computed with, shapes, sharing (facts of blob.cpp and _caffe.cpp)."""

import gc

import numpy as np
import pytest
import torch

from caffe.blob import Blob, BlobVec
from caffe.errors import NetError


def test_a_view_is_float32_contiguous_writable_and_of_the_blobs_shape():
    blob = Blob(2, 3, 4)
    assert blob.data.dtype == blob.diff.dtype == np.float32
    assert blob.data.shape == (2, 3, 4) and blob.data.flags.c_contiguous and blob.data.flags.writeable
    assert not blob.data.any() and not blob.diff.any()


def test_data_and_diff_cannot_be_rebound():
    blob = Blob(2)
    with pytest.raises(AttributeError):
        blob.data = np.zeros(2)
    with pytest.raises(AttributeError):
        blob.diff = np.zeros(2)


def test_a_view_taken_once_follows_every_later_result():
    blob = Blob(2, 2)
    view = blob.data
    row = blob.data[1]
    blob.set_data(torch.ones(2, 2))
    assert (view == 1).all() and (row == 1).all()
    view[...] = 7
    assert (blob.data_tensor() == 7).all()


def test_a_slice_alone_keeps_the_memory_in_place():
    blob = Blob(3, 2)
    row = blob.data[2]
    gc.collect()
    blob.set_data(torch.full((3, 2), 4.0))
    assert (row == 4).all()
    row[:] = 5
    assert (blob.data_tensor()[2] == 5).all()


def test_results_are_taken_without_a_copy_while_no_view_is_held():
    blob = Blob(4)
    blob.data[...] = 3  # a view, but not held
    result = torch.ones(4)
    blob.set_data(result)
    assert blob.data_tensor().data_ptr() == result.data_ptr()


def test_the_version_of_data_changes_with_every_write_and_is_unknown_while_a_view_is_held():
    blob = Blob(4)
    first = blob.data_version
    blob.data[...] = 1
    second = blob.data_version
    assert first is not None and second is not None and first != second
    view = blob.data
    assert blob.data_version is None
    del view
    assert blob.data_version is not None


def test_reshape_keeps_values_while_they_fit_and_grows_with_zeros():
    blob = Blob(2, 3)
    blob.data[...] = np.arange(6).reshape(2, 3)
    blob.reshape(4)
    assert blob.data.tolist() == [0, 1, 2, 3]
    blob.reshape(10)
    assert blob.data.shape == (10,) and not blob.data.any()


def test_a_held_view_outlives_growth_and_does_not_see_the_new_memory():
    blob = Blob(2)
    view = blob.data
    view[...] = 5
    blob.reshape(9)
    blob.set_data(torch.ones(9))
    assert view.tolist() == [5, 5]


def test_reshape_to_no_axes_is_a_scalar():
    blob = Blob(5)
    blob.reshape()
    assert blob.data.shape == () and blob.count == 1
    assert (blob.num, blob.channels, blob.height, blob.width) == (1, 1, 1, 1)
    blob.data[...] = 3.5
    assert float(blob.data) == 3.5


@pytest.mark.parametrize(
    ("dims", "said"), [((-1, 2), "negative"), ((65536, 65536), "limit"), (tuple([1] * 33), "32 axes")]
)
def test_a_shape_that_cannot_be_is_refused_before_memory_is_taken(dims, said):
    with pytest.raises(NetError, match=said):
        Blob(1).reshape(*dims)


def test_reshape_takes_no_keywords():
    with pytest.raises(RuntimeError, match=r"Blob\.reshape takes no kwargs"):
        Blob(1).reshape(1, axis=2)


def test_the_legacy_extents_are_for_up_to_four_axes():
    assert (Blob(2, 3).num, Blob(2, 3).channels, Blob(2, 3).height) == (2, 3, 1)
    with pytest.raises(NetError, match=r"blob\.shape"):
        _ = Blob(1, 1, 1, 1, 1).num


def test_shape_is_a_list_of_ints():
    assert list(Blob(1, 2).shape) == [1, 2] and tuple(Blob(1, 2).shape) == (1, 2)


def test_shared_data_is_one_memory_whichever_blob_writes():
    one, other = Blob(3), Blob(3)
    other.share_data(one)
    one.set_data(torch.tensor([1.0, 2.0, 3.0]))
    assert other.data.tolist() == [1, 2, 3]
    other.data[0] = 9
    assert one.data_tensor()[0] == 9


def test_a_view_outlives_its_blob():
    view = Blob(3).data
    gc.collect()
    view[...] = 2
    assert view.sum() == 6


def test_clear_diff_zeroes_what_a_held_view_shows():
    blob = Blob(3)
    view = blob.diff
    view[...] = 4
    blob.clear_diff()
    assert not view.any() and not blob.diff.any()


def test_a_gradient_is_added_to_what_is_there():
    blob = Blob(2)
    blob.add_diff(torch.ones(2))
    blob.add_diff(torch.ones(2))
    assert blob.diff.tolist() == [2, 2]


def test_a_gradient_of_another_shape_is_refused():
    with pytest.raises(NetError, match=r"2 x 3.*3 x 2"):
        Blob(3, 2).set_diff(torch.ones(2, 3))


def test_a_memory_format_of_torchs_is_never_seen_by_numpy():
    blob = Blob(1)
    values = torch.arange(24.0).view(1, 2, 3, 4)
    blob.set_data(values.contiguous(memory_format=torch.channels_last))
    assert blob.data.flags.c_contiguous
    assert (blob.data.ravel() == np.arange(24)).all()


def test_add_blob_appends_a_zero_blob():
    blobs = BlobVec()
    blobs.add_blob(2, 3)
    assert len(blobs) == 1 and blobs[0].data.shape == (2, 3) and not blobs[0].data.any()
    with pytest.raises(RuntimeError, match="takes no kwargs"):
        blobs.add_blob(2, lr=1)
