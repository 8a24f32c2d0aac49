"""Sends junk values to a service: how many series, bytes and how much memory do they take?"""
