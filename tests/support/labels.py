"""Labels of made crops."""

import numpy as np

from reidray.data.attribute_schema import AttributeSchema
from reidray.data.crop_labels import CropLabels


def make_labels(
    person_ids,
    camera_ids=None,
    attribute_labels=None,
    schema=AttributeSchema(),
    class_labels=None,
    classes=(),
    first_index=0,
):
    """Return the labels of crops with these people; what is not given is unknown."""
    count = len(person_ids)
    unknown = np.full(count, -1, np.int16)
    return CropLabels(
        indices=np.arange(first_index, first_index + count),
        person_ids=np.asarray(person_ids),
        camera_ids=unknown if camera_ids is None else np.asarray(camera_ids, np.int16),
        attribute_labels=np.zeros((count, 0), np.int8)
        if attribute_labels is None
        else np.asarray(attribute_labels, np.int8),
        schema=schema,
        class_labels=unknown if class_labels is None else np.asarray(class_labels, np.int16),
        classes=classes,
    )
