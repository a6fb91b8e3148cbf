"""The weight-sharing forms of the networks of a space: one network that holds all others.

What search needs of one is :class:`~metad2a.spaces.supernets.base.SuperNet`; how a pass goes
through it, :class:`~metad2a.spaces.supernets.gates.Gates`. Plain networks lie in ``networks``.
"""
