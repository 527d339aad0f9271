"""The demo: simulate, replay all rules and ask the questions without sight of the truth, then compare with it.

Layer: above questions, below faces. ``run`` is the whole, ``worker`` the blind half in a process of its own, ``judging``
the comparison of findings with planted stories, ``challenges`` that of answers with the workshop's challenges.
"""
