// Package svg writes small drawings for reports. It knows no figures.
package svg

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strconv"
)

// Colours of every report.
const (
	Ink    = "#222222"
	Pale   = "#dddddd"
	Figure = "#2f6f8f"
	Alarm  = "#b03030"
)

// Drawing is an SVG image that is being written.
type Drawing struct{ out bytes.Buffer }

// New begins a drawing of that size in pixels. The title and the note are for who has
// the file alone.
func New(width, height int, title, note string) *Drawing {
	d := &Drawing{}
	fmt.Fprintf(&d.out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&d.out, "<title>%s</title>\n<desc>%s</desc>\n", escape(title), escape(note))
	fmt.Fprintf(&d.out, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	return d
}

// Text writes at a point; more are further attributes, as `font-size="16"`.
func (d *Drawing) Text(x, y float64, text string, more ...string) {
	fmt.Fprintf(&d.out, `<text x="%s" y="%s"`, num(x), num(y))
	for _, m := range more {
		d.out.WriteString(" " + m)
	}
	fmt.Fprintf(&d.out, ` fill="%s">%s</text>`+"\n", Ink, escape(text))
}

// Box is a filled rectangle.
func (d *Drawing) Box(x, y, width, height float64, colour string) {
	fmt.Fprintf(&d.out, `<rect x="%s" y="%s" width="%s" height="%s" fill="%s"/>`+"\n", num(x), num(y), num(width), num(height), colour)
}

// Close returns the image.
func (d *Drawing) Close() []byte {
	d.out.WriteString("</svg>\n")
	return d.out.Bytes()
}

// num is a coordinate, to a tenth of a pixel.
func num(x float64) string {
	s := strconv.FormatFloat(x, 'f', 1, 64)
	return string(bytes.TrimSuffix([]byte(s), []byte(".0")))
}

func escape(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a buffer takes everything
	return b.String()
}
