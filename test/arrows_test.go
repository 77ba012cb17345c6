// Package test holds what concerns the whole house.
package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// room is one package of the floor plan: whom of ours it may import, and which
// foreign packages in which files.
type room struct {
	own     string            // space-separated; "*" is everything
	foreign map[string]string // import path or its beginning -> pattern of file names
	pure    bool              // no clock, randomness, log, files or goroutines of its own
}

const gmsm = "github.com/emmansun/gmsm"

// house is the floor plan. A package that is not in it has no place.
var house = map[string]room{
	"policy":                 {foreign: map[string]string{"go.yaml.in/yaml": "yaml.go"}, pure: true},
	"policy/secret":          {pure: true},
	"policy/trust":           {own: "policy", foreign: map[string]string{gmsm: "x509.go"}, pure: true},
	"esp":                    {own: "esp/internal/lanes policy policy/secret", pure: true},
	"esp/internal/lanes":     {foreign: map[string]string{gmsm: "soft.go"}, pure: true},
	"esp/internal/lanes/gen": {},
	"esp/internal/segment":   {pure: true},
	"esp/changes":            {foreign: map[string]string{"golang.org/x": "*_linux.go"}},
	"esp/links":              {foreign: map[string]string{"github.com/vishvananda/netlink": "*_linux.go", "golang.org/x": "*_linux.go"}},
	"esp/nft":                {},
	"esp/ours":               {},
	"esp/warm":               {own: "esp policy", pure: true},
	"esp/tunnel": {own: "esp esp/changes esp/internal/segment esp/nft esp/ours policy", foreign: map[string]string{
		"github.com/vishvananda/netlink": "*_linux.go", "golang.org/x": "*.go"}},
	"xfrm":     {own: "esp esp/changes esp/nft esp/ours policy policy/secret", foreign: map[string]string{"github.com/vishvananda/netlink": "*.go", "golang.org/x": "*.go"}},
	"ike/wire": {pure: true},
	// The one file of ike that meets gmsm became a leaf of its own.
	"ike/gm":     {own: "policy policy/secret", foreign: map[string]string{gmsm: "sm.go"}, pure: true},
	"ike/psk":    {own: "ike/gm policy policy/secret", foreign: map[string]string{"filippo.io/bigmod": "modp.go"}, pure: true},
	"ike":        {own: "ike/wire ike/gm ike/psk esp policy policy/secret policy/trust", pure: true},
	"ike/server": {own: "ike esp policy policy/secret", foreign: map[string]string{"golang.org/x": "*_linux.go"}},

	"cmd/yumen":               {own: "*", foreign: map[string]string{"github.com/spf13/cobra": "*.go", "golang.org/x": "*.go"}},
	"cmd/internal/atomicfile": {},
	"cmd/internal/bench":      {own: "*", foreign: map[string]string{"github.com/vishvananda/netlink": "world_linux.go", "golang.org/x/sys": "world_linux.go", "golang.org/x/net": "traffic.go"}},
	"cmd/internal/drill":      {own: "cmd/internal/control cmd/internal/svg"},
	"cmd/internal/guard":      {own: "*"},
	"cmd/internal/config":     {own: "*", foreign: map[string]string{"github.com/spf13/viper": "viper.go", "go.yaml.in/yaml": "outline.go"}},
	"cmd/internal/control":    {own: "*", foreign: map[string]string{"golang.org/x": "*.go"}},
	"cmd/internal/daemon":     {own: "*", foreign: map[string]string{"github.com/prometheus/": "metrics.go", "golang.org/x": "*.go"}},
	"cmd/internal/decode":     {own: "*", foreign: map[string]string{"github.com/google/gopacket": "capture.go", gmsm: "gmsm.go"}},
	"cmd/internal/doctor":     {own: "*", foreign: map[string]string{"github.com/vishvananda/netlink": "netlink_linux.go", "golang.org/x": "*_linux.go"}},
	"cmd/internal/foreign":    {own: "policy", foreign: map[string]string{"golang.org/x": "gbk.go"}},
	"cmd/internal/peersheet":  {own: "*", foreign: map[string]string{"golang.org/x": "width.go"}},
	"cmd/internal/keys":       {own: "*", foreign: map[string]string{gmsm: "sm2.go", "golang.org/x": "*.go"}},
	"cmd/internal/pki":        {own: "*", foreign: map[string]string{gmsm: "gmsm.go"}},
	"cmd/internal/probe":      {own: "*"},
	"cmd/internal/svg":        {},
	"cmd/internal/selftest":   {own: "*", foreign: map[string]string{gmsm: "sm2.go"}},

	"test":     {},
	"test/lab": {own: "ike ike/gm ike/wire esp policy policy/secret policy/trust", foreign: map[string]string{gmsm: "identity.go"}},
}

// roomOf finds a package in the floor plan. What stands under test and is not
// named builds worlds around the product and may reach for anything.
func roomOf(pkg string) (room, bool) {
	r, known := house[pkg]
	if !known && strings.HasPrefix(pkg, "test/") {
		return room{own: "*", foreign: map[string]string{"github.com/vishvananda/": "*.go", "github.com/google/gopacket": "*.go",
			"golang.org/x": "*.go"}}, true
	}
	return r, known
}

// forbidden are the calls that a pure package does not make.
var forbidden = map[string][]string{
	"time": {"Now", "After", "AfterFunc", "Since", "Until", "NewTimer", "NewTicker", "Tick", "Sleep"},
	"rand": {"*"},
}

// banned are the imports that a pure package does without.
var banned = []string{"log", "log/slog", "os", "crypto/rand", "math/rand", "math/rand/v2", "net", "syscall", "unsafe"}

// allowed are exceptions, by file and import.
var allowed = map[string]string{
	"policy/file.go":          "os",
	"policy/secret/secret.go": "log/slog", // only so that a secret masks itself there
}

// source is one file that is not a test.
type source struct {
	pkg, name string
	file      *ast.File
	set       *token.FileSet
}

func (s source) at(n ast.Node) string { return s.set.Position(n.Pos()).String() }

// sources parses the whole tree.
func sources(t *testing.T) (list []source) {
	t.Helper()
	root := ".."
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, p)
		switch {
		case err != nil:
			return err
		case d.IsDir() && rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "build"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go"):
			return nil
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, p, nil, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", rel, err)
		}
		list = append(list, source{path.Dir(filepath.ToSlash(rel)), d.Name(), f, set})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 50 {
		t.Fatalf("only %d files found: this test looks at the wrong place", len(list))
	}
	return list
}

// Every arrow points down, and foreign packages stay in the files named for them.
func TestArrowsPointDown(t *testing.T) {
	for _, s := range sources(t) {
		r, known := roomOf(s.pkg)
		if !known {
			t.Errorf("%s/%s: the package is not in the floor plan of this test", s.pkg, s.name)
			continue
		}
		for _, i := range s.file.Imports {
			to, _ := strconv.Unquote(i.Path.Value)
			if why := r.refuses(to, s.name); why != "" {
				t.Errorf("%s: imports %s: %s", s.at(i), to, why)
			}
		}
	}
}

// refuses says why a file of r may not import to; empty when it may.
func (r room) refuses(to, file string) string {
	first, _, _ := strings.Cut(to, "/")
	switch {
	case first == "yumen":
		own := strings.TrimPrefix(to, "yumen/")
		if r.own != "*" && !slices.Contains(strings.Fields(r.own), own) {
			return "an arrow that is not in the floor plan"
		}
	case strings.Contains(first, "."):
		for begin, pattern := range r.foreign {
			if strings.HasPrefix(to, begin) {
				if ok, _ := path.Match(pattern, file); !ok {
					return "only " + pattern + " may meet it"
				}
				return ""
			}
		}
		return "a foreign package that has no file here"
	}
	return ""
}

// The pure packages take time, randomness and files as arguments and keep no
// state of their own.
func TestPurePackagesStayPure(t *testing.T) {
	globals := map[string]map[string]bool{}
	list := slices.DeleteFunc(sources(t), func(s source) bool { return !house[s.pkg].pure })
	for _, s := range list {
		if globals[s.pkg] == nil {
			globals[s.pkg] = map[string]bool{}
		}
		for _, name := range variables(s.file) {
			globals[s.pkg][name] = true
		}
	}
	for _, s := range list {
		for _, i := range s.file.Imports {
			to, _ := strconv.Unquote(i.Path.Value)
			if slices.Contains(banned, to) && allowed[s.pkg+"/"+s.name] != to {
				t.Errorf("%s: imports %s", s.at(i), to)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if why := impure(n, globals[s.pkg]); why != "" {
				t.Errorf("%s: %s", s.at(n), why)
			}
			return true
		})
	}
}

func variables(f *ast.File) (names []string) {
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, spec := range g.Specs {
			for _, name := range spec.(*ast.ValueSpec).Names {
				names = append(names, name.Name)
			}
		}
	}
	return names
}

// impure says what is wrong with n in a pure package.
func impure(n ast.Node, globals map[string]bool) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "a goroutine"
	case *ast.FuncDecl:
		if n.Name.Name == "init" && n.Recv == nil {
			return "func init"
		}
	case *ast.SelectorExpr:
		if x, ok := n.X.(*ast.Ident); ok && x.Obj == nil {
			calls := forbidden[x.Name]
			if slices.Contains(calls, n.Sel.Name) || slices.Contains(calls, "*") {
				return x.Name + "." + n.Sel.Name
			}
		}
	case *ast.AssignStmt:
		for _, l := range n.Lhs {
			if name := root(l); n.Tok != token.DEFINE && globals[name] && !local(l) {
				return "a change of the package's variable " + name
			}
		}
	case *ast.IncDecStmt:
		if name := root(n.X); globals[name] && !local(n.X) {
			return "a change of the package's variable " + name
		}
	case *ast.UnaryExpr:
		if name := root(n.X); n.Op == token.AND && globals[name] && !local(n.X) {
			return "the address of the package's variable " + name
		}
	}
	return ""
}

// rootIdent is x of x, x.f, x[i], *x and (x); nil for anything else.
func rootIdent(e ast.Expr) *ast.Ident {
	switch e := e.(type) {
	case *ast.Ident:
		return e
	case *ast.SelectorExpr:
		return rootIdent(e.X)
	case *ast.IndexExpr:
		return rootIdent(e.X)
	case *ast.StarExpr:
		return rootIdent(e.X)
	case *ast.ParenExpr:
		return rootIdent(e.X)
	}
	return nil
}

func root(e ast.Expr) string {
	if i := rootIdent(e); i != nil {
		return i.Name
	}
	return ""
}

// local reports whether the name is declared inside a function. The parser
// resolves names within a file; a variable of the package is unresolved or
// resolves to a specification at the top level.
func local(e ast.Expr) bool {
	i := rootIdent(e)
	if i == nil || i.Obj == nil {
		return false
	}
	_, top := i.Obj.Decl.(*ast.ValueSpec)
	return !top
}

// The rules themselves notice what they are for.
func TestArrowRulesNoticeFaults(t *testing.T) {
	for to, want := range map[string]bool{"yumen/ike/server": true, "yumen/ike/wire": false, "fmt": false,
		"github.com/spf13/viper": true, gmsm + "/sm2": true} {
		if why := house["ike"].refuses(to, "engine.go"); (why != "") != want {
			t.Errorf("ike importing %s: %q", to, why)
		}
	}
	if house["policy/trust"].refuses(gmsm+"/sm2", "verifier.go") == "" || house["policy/trust"].refuses(gmsm+"/sm2", "x509.go") != "" {
		t.Error("gmsm is not held in its file")
	}
	const code = `package p
import ("time"; "math/rand")
var g int
var table = map[int]int{}
func init() {}
func f() { go f(); _ = time.Now(); _ = rand.Int(); g = 1; g++; table[1] = 2; _ = &g; h := 1; h++; h = 2; _ = time.Second }
`
	f, err := parser.ParseFile(token.NewFileSet(), "p.go", code, 0)
	if err != nil {
		t.Fatal(err)
	}
	globals := map[string]bool{}
	for _, name := range variables(f) {
		globals[name] = true
	}
	var found []string
	ast.Inspect(f, func(n ast.Node) bool {
		if why := impure(n, globals); why != "" {
			found = append(found, why)
		}
		return true
	})
	want := []string{"func init", "a goroutine", "time.Now", "rand.Int", "a change of the package's variable g",
		"a change of the package's variable g", "a change of the package's variable table", "the address of the package's variable g"}
	if !slices.Equal(found, want) {
		t.Errorf("found %q", found)
	}
}
