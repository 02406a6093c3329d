"""Plan the batches of an epoch from the seed and the number of the epoch alone.

A plan consists of global batches. Of W workers, worker r takes the people (or the crops) r, r + W,
... of each batch, so that a seed gives the same global batches for any number of workers. A plan is
computed while it is read, in time that is linear in what it draws.
"""
