package config

// node is a word of a VyOS configuration, with the words that can follow it.
// Both VyOS spellings come down to it:
//
//	peer @foo {                     set peer @foo authentication id A
//	    authentication {            set peer @foo local-address any
//	        id A                        peer
//	    }                                └ @foo
//	    local-address any                   ├ authentication ─ id ─ A
//	}                                       └ local-address ─ any
type node struct {
	word   string
	pos    Pos
	kids   []*node // in the order of the file; byWord finds them
	byWord map[string]*node
	// parent leads back to the path as it was written.
	parent *node
}

func (n *node) find(word string) *node { return n.byWord[word] }

func (n *node) append(k *node) {
	if n.byWord == nil {
		n.byWord = map[string]*node{}
	}
	k.parent = n
	n.byWord[k.word] = k
	n.kids = append(n.kids, k)
}

// get follows a path of words; nil where it ends too soon.
func (n *node) get(path ...string) *node {
	for _, word := range path {
		if n = n.find(word); n == nil {
			return nil
		}
	}
	return n
}

// add follows the words down from n, making what is not there.
func (n *node) add(words []token) *node {
	for _, w := range words {
		k := n.find(w.text)
		if k == nil {
			k = &node{word: w.text, pos: w.pos}
			n.append(k)
		}
		n = k
	}
	return n
}

// adopt makes what is below other part of n.
func (n *node) adopt(other *node) {
	for _, k := range other.kids {
		n.adoptKid(k)
	}
}

func (n *node) adoptKid(k *node) {
	if same := n.find(k.word); same != nil {
		same.adopt(k)
		return
	}
	n.append(k)
}

// maxDepth bounds braces in braces.
const maxDepth = 32

// treeParser knows the way from the root to the innermost open brace.
type treeParser struct {
	*lexer
	way    []*node
	braces []Pos
}

// parseVyOSTree reads the tree of a VyOS configuration file, or a part of one.
// After an error, which it reports, it returns nil.
func (r *reader) parseVyOSTree(text []byte) *node {
	root := &node{pos: Pos{r.file, 1, 1}}
	p := treeParser{lexer: newLexer(r, text), way: []*node{root}}
	for p.statement() {
	}
	if r.errors > 0 {
		return nil
	}
	return root
}

// statement reads the words up to a brace or the end of the line, and says
// whether to go on.
func (p *treeParser) statement() bool {
	words, end, ok := p.words()
	if !ok {
		return false
	}
	last := p.way[len(p.way)-1].add(words)
	switch end.kind {
	case tokenOpen:
		return p.open(last, len(words), end.pos)
	case tokenClose:
		return p.close(end.pos)
	case tokenEnd:
		if n := len(p.braces); n > 0 {
			p.error(end.pos, "paste the configuration to its end", "the brace opened on line %d is not closed", p.braces[n-1].Line)
		}
		return false
	}
	return true
}

func (p *treeParser) open(n *node, words int, at Pos) bool {
	switch {
	case words == 0:
		p.error(at, "write what the braces belong to in front of them", "an opening brace stands alone")
		return false
	case len(p.braces) == maxDepth:
		p.error(at, "", "more than %d braces in braces", maxDepth)
		return false
	}
	p.way, p.braces = append(p.way, n), append(p.braces, at)
	return true
}

func (p *treeParser) close(at Pos) bool {
	if len(p.braces) == 0 {
		p.error(at, "take it out, or paste the line that opens it too", "a closing brace closes nothing")
		return false
	}
	p.way, p.braces = p.way[:len(p.way)-1], p.braces[:len(p.braces)-1]
	return true
}
