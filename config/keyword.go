package config

import "culvert/ikev2/wire"

// Keyword is how a proposal in a configuration writes the algorithm; "" for
// one that it cannot have.
func Keyword(t wire.Transform) string { return keywordOf(t) }
