"""Record the epochs of a training."""


class EpochRecorder:
    """Hold the metrics of each epoch in `records`."""

    def __init__(self):
        self.records = []

    def on_train_start(self, records):
        pass

    def on_progress(self, progress):
        pass

    def on_epoch_end(self, record, _):
        self.records.append(record)
