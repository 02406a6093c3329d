"""Generate the demo set: drawn pedestrians in front of drawn cameras, with a known ground truth.

`people` generates the people, `scene` the cameras and their surroundings, `figure` draws a person
with a `pen`, and `dataset` plans which camera sees whom and writes the files.
"""

from reidray.demo.dataset import check_demo_folder, generate_demo_set

__all__ = ["check_demo_folder", "generate_demo_set"]
