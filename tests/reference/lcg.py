"""Knuth's MMIX generator, which tests in Rust and scripts here both have: a draw is the upper 32 bits."""


class Lcg:
    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return self.state >> 32

    def below(self, n):
        return self.next() % n

    def draw(self):
        """A number from 0 to 1."""
        return self.next() / 2**32
