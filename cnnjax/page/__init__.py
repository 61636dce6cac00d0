# SPDX-License-Identifier: Apache-2.0
"""The page of a run, and the page that compares several: one HTML file each, complete in itself.

Charts are drawn by `page.js`, under 300 lines of our own, as inline SVG, and not by a plotting library: such a library
weighs megabytes a page, and would have to be told about light and dark, where our strokes are CSS variables that
follow the reader's setting. Markup is built by `html.element`, which escapes all text that is not markup already; a
template language would be one dependency more for the same. A policy in the page's head lets the browser load
nothing from anywhere and run no script but ours.
"""
