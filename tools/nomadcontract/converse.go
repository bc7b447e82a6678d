package main

func converse(address, token, path string) error { return errUsage }
