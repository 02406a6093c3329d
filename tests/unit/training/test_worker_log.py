import logging
from queue import Queue

from reidray.training.execution.worker import send_log_lines


def test_the_driver_receives_the_log_lines_of_a_training_process():
    log, events = logging.getLogger("reidray"), Queue()
    with send_log_lines(events):
        log.info("crops lie on %s", "the GPU")
        log.debug("a detail")
    log.info("later")
    assert list(events.queue) == ["crops lie on the GPU"]
