"""The demo set: drawn pedestrians before drawn cameras, with a known truth.

`people` says who there is, `scene` where the cameras hang and what they see, `figure` draws a
person with a `pen`, `dataset` decides who walks past which camera and writes the files.
"""

from reidray.demo.dataset import check_demo_folder, generate_demo_set

__all__ = ["check_demo_folder", "generate_demo_set"]
