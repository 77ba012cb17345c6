package drill

import (
	"fmt"
	"html/template"
	"io"
	"time"

	"yumen/cmd/internal/svg"
)

// WriteHTML writes the report as one file that needs no other.
func (r *Report) WriteHTML(w io.Writer) error {
	return page.Execute(w, map[string]any{"R": r, "Plot": template.HTML(r.plot()), "Verdict": r.verdict(), "Site": r.site(),
		"Day": r.Begun.Format(time.DateOnly), "From": r.Begun.Format(time.RFC3339), "To": r.Ended.Format(time.TimeOnly), "Legend": r.legend()})
}

var page = template.Must(template.New("report").Funcs(template.FuncMap{"yes": yes}).Parse(`<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Drill {{.R.Group}} {{.Day}}</title>
<style>
body { font: 15px/1.5 sans-serif; color: #222; max-width: 60em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 } th, td { border: 1px solid #ccc; padding: .3em .7em; text-align: right }
th:first-child, td:first-child { text-align: left } .bad { color: #b03030 } .good { color: #2a7a3a } svg { max-width: 100%; height: auto }
</style>
<h1>Drill of group {{.R.Group}} · 切换演练报告</h1>
<p><strong class="{{if .R.Passed}}good{{else}}bad{{end}}">{{.Verdict}}</strong> · {{.Site}} · {{.R.Mode}} · {{.From}} – {{.To}} · yumen {{.R.Version}}</p>
<p>A numbered probe every {{.R.Every}}; failures {{.R.Failures}}; pass: at most {{.R.Limit}} without an answer.
In all {{.R.Whole.Sent}} probes, {{.R.Whole.Lost}} lost, longest time without an answer {{printf "%.0f" .R.Whole.Gap}} ms.</p>
{{if .R.Why}}<p class="bad">{{.R.Why}}</p>{{end}}
<table><tr><th>Path 路径<th>Carried 承载<th>Probes 探测<th>Lost 丢失<th>Gap 中断 ms<th>There 去向<th>Back 回向<th>Lost on return 恢复时丢失
{{range .R.Paths}}<tr><td>{{.Path}}<td>{{yes .Carried}}<td>{{.Failure.Sent}}<td>{{.Failure.Lost}}<td>{{printf "%.0f" .Failure.Gap}}<td>{{.Failure.There}}<td>{{.Failure.Homeward}}<td>{{.Return.Lost}}
{{end}}</table>
{{.Plot}}
{{range .Legend}}<p>{{.}}</p>{{end}}
</html>
`))

// plot draws the round trip of each probe over time; where some were lost a column is
// red, and where a path had failed it is shaded.
func (r *Report) plot() []byte {
	const width, height, left, top, floor = 900.0, 300.0, 60.0, 50.0, 260.0
	d := svg.New(int(width), int(height), "Round trip of probes, group "+r.Group, "red: probes without an answer; grey: a path had failed")
	d.Text(16, 26, "Round trip, ms; red: no answer; grey: a path had failed", `font-size="16"`)
	if len(r.probes) == 0 {
		return d.Close()
	}
	from, to := r.probes[0].Sent, r.probes[len(r.probes)-1].Sent+1
	const columns = int(width - left - 20)
	at := func(ns int64) float64 { return left + float64(columns)*float64(ns-from)/float64(to-from) }
	slowest, lost := make([]float64, columns), make([]bool, columns)
	most := 1.0
	for _, s := range r.probes {
		c := min(int(float64(columns)*float64(s.Sent-from)/float64(to-from)), columns-1)
		if s.Answered == 0 {
			lost[c] = lost[c] || s.Sent < r.Ended.Add(-answers).UnixNano()
			continue
		}
		slowest[c] = max(slowest[c], ms(s.Answered-s.Sent))
		most = max(most, slowest[c])
	}
	for _, x := range r.Paths {
		a, b := at(x.Failed.UnixNano()), at(x.Restored.UnixNano())
		d.Box(a, top, max(1, b-a), floor-top, svg.Pale)
		d.Text(a+2, top-6, x.Path)
	}
	for c := range columns {
		x := left + float64(c)
		if lost[c] {
			d.Box(x, top, 1, floor-top, svg.Alarm)
		}
		if h := (floor - top) * slowest[c] / most; h > 0 {
			d.Box(x, floor-h, 1, h, svg.Figure)
		}
	}
	d.Box(left, floor, float64(columns), 1, svg.Ink)
	d.Text(left-6, top+10, fmt.Sprintf("%.1f", most), `text-anchor="end"`)
	d.Text(left-6, floor, "0", `text-anchor="end"`)
	d.Text(left, floor+20, time.Unix(0, from).Format(time.TimeOnly))
	d.Text(left+float64(columns), floor+20, time.Unix(0, to).Format(time.TimeOnly), `text-anchor="end"`)
	return d.Close()
}
