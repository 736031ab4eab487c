"""What only a whole scenario can show: one module for each format, both asked in the same way.

``check`` gives all that is wrong with a scenario whose models accept it, ``tell`` tells its story.
"""
