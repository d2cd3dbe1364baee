//go:build !linux

package natt

var batchImplementations []implementation
