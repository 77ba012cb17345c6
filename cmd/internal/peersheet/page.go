package peersheet

import (
	"fmt"
	"strings"

	"yumen/cmd/internal/foreign"
)

// mark says what the far end has to do with a value.
type mark uint8

const (
	same mark = iota // must be the same at both ends
	set              // to be set there
	know             // for information
	ask              // we need to be told
)

func (m mark) text() foreign.Text {
	switch m {
	case same:
		return foreign.Text{ZH: "必须一致", EN: "must match"}
	case set:
		return foreign.Text{ZH: "请设置", EN: "set"}
	case ask:
		return foreign.Text{ZH: "请告知", EN: "tell us"}
	}
	return foreign.Text{ZH: "供参考", EN: "to know"}
}

// row is one value of a sheet.
type row struct {
	mark  mark
	item  foreign.Text
	value foreign.Text
}

type section struct {
	title foreign.Text
	rows  []row
}

// say is a text of both languages; with one argument both are the same.
func say(zh string, en ...string) foreign.Text {
	if len(en) == 0 {
		return foreign.Text{ZH: zh, EN: zh}
	}
	return foreign.Text{ZH: zh, EN: en[0]}
}

func (s *section) add(m mark, item, value foreign.Text) {
	s.rows = append(s.rows, row{m, item, value})
}

// page is a sheet being written.
type page struct {
	strings.Builder
	lang Lang
	n    int // of the last section
}

func (p *page) in(t foreign.Text) string {
	if p.lang == English {
		return t.EN
	}
	return t.ZH
}

func (p *page) say(zh, en string) string { return p.in(foreign.Text{ZH: zh, EN: en}) }

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *page) head(f *Facts) {
	p.line("# %s", p.say("IPsec VPN 对接参数表（GB/T 36968-2018）", "IPsec VPN parameters for the far end (GB/T 36968-2018)"))
	p.line("")
	p.line(p.say("隧道 %s，我方站点 %s（玉门网关），贵方在我方配置中称为 %s。制表时间 %s。",
		"Tunnel %s, our site %s (a Yumen gateway); you are %s in our configuration. Made at %s."),
		f.Tunnel.Name, f.Site, f.Peer.Name, f.Now.UTC().Format("2006-01-02 15:04 UTC"))
	p.line(p.say("表中“本地”“对端”均以贵方设备为准：本地是贵方，对端是我方。表内没有任何密钥。",
		"“Local” and “remote” are meant as on your box: local is yours, remote is ours. No secret is in this sheet."))
	if len(f.Others) > 0 {
		p.line(p.say("同一对端还有隧道：%s，每条隧道各有一张表。", "There are more tunnels between us, with a sheet each: %s."), strings.Join(f.Others, ", "))
	}
}

// section writes a table. Pipes in values would end a cell.
func (p *page) section(s section) {
	p.n++
	p.line("\n## %d. %s\n", p.n, p.in(s.title))
	cells := [][3]string{{p.say("项目", "item"), p.say("取值", "value"), p.say("要求", "your part")}}
	for _, r := range s.rows {
		cells = append(cells, [3]string{p.in(r.item), p.in(r.value), p.in(r.mark.text())})
	}
	var most [3]int
	for i := range cells {
		for k := range cells[i] {
			cells[i][k] = strings.ReplaceAll(cells[i][k], "|", `\|`)
			most[k] = max(most[k], columns(cells[i][k]))
		}
	}
	for i, c := range cells {
		p.line("| %s | %s | %s |", padded(c[0], most[0]), padded(c[1], most[1]), padded(c[2], most[2]))
		if i == 0 {
			p.line("|%s|%s|%s|", strings.Repeat("-", most[0]+2), strings.Repeat("-", most[1]+2), strings.Repeat("-", most[2]+2))
		}
	}
}

// commands writes a script, what must be replaced in it, and what is in doubt.
func (p *page) commands(v foreign.Vendor, s foreign.Script) {
	p.n++
	p.line("\n## %d. %s", p.n, fmt.Sprintf(p.say("%v 设备命令", "Commands for a box of %v"), v))
	p.line("\n%s", p.say("在系统视图（全局配置模式）下逐段粘贴。命令依据厂商公开手册写成，未在实机上验证，存疑之处列在后面。",
		"Paste them in the system view (global configuration). They are written by the maker's public manuals and were tried on no box; doubts are listed behind them."))
	if len(s.Fill) > 0 {
		p.line("\n%s\n", p.say("先替换下列只有贵方知道的值：", "First replace what only you know:"))
	}
	for _, f := range s.Fill {
		p.line("- `%s`: %s", f.Word, p.in(f.What))
	}
	p.line("\n```text")
	for _, l := range s.Lines {
		p.line("%s", l)
	}
	p.line("```\n")
	p.line("%s\n", p.say("请注意：", "Mind:"))
	for _, r := range s.Remarks {
		p.line("- %s", p.in(r))
	}
}
