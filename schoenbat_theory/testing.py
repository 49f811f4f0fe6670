"""placeholder while testing is being written"""
