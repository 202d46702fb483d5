"""The bytes of a shard's file."""

import numpy as np
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from frostbox.features.shards import safetensors_parts

TENSORS = st.dictionaries(
    st.sampled_from(["stride_8", "stride_16", "stride_32", "scale_8", 'a "quoted" naïve name']),
    arrays.arrays(
        st.sampled_from([np.float16, np.float32, np.int8]),
        arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
    ),
    min_size=1,
)


@given(TENSORS)
def test_a_file_is_the_one_that_safetensors_writes(tensors):
    ours = b"".join(safetensors_parts(tensors))
    assert len(ours) == sum(part.nbytes for part in safetensors_parts(tensors))
    theirs = safetensors.numpy.save(tensors)
    assert ours == theirs


def test_no_tensor_is_copied():
    maps = np.zeros((2, 3), dtype=np.float16)
    _, data = safetensors_parts({"stride_8": maps})
    maps[1, 2] = 1
    assert np.frombuffer(data, dtype=np.float16)[5] == 1
