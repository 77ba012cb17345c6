package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// line is one line of the table of ratios.
type line struct {
	what, how string  // what is held against what, and under which conditions
	measured  float64 // 0: it was not
	must, aim float64
}

// computed are the rows that the benchmarks of the packages measure: the name of each,
// behind that of the kernel, and its unit.
func computed() []struct {
	line
	name, unit string
} {
	const alone = "one goroutine, nothing pinned, no I/O, IVs made inside"
	return []struct {
		line
		name, unit string
	}{
		{line{"ESP SM4-CBC+HMAC-SM3 encapsulation vs gmsm packet by packet", "24 packets of 1400 bytes; " + alone, 0, 6, 9}, "seal-CBC-HMAC/24", "x"},
		{line{"SM4-CBC batch encryption vs gmsm", "24 packets of 1408 bytes; " + alone, 0, 8, 12}, "SM4-CBC-encrypt/24", "x"},
		{line{"8-lane SM3 vs gmsm single stream", "8 packets of 1432 bytes, HMAC against the bare hash; " + alone, 0, 4, 5}, "HMAC-SM3-vs-SM3/8", "x"},
		{line{"ESP CBC decapsulation vs gmsm with reuse", "24 packets of 1400 bytes; " + alone, 0, 2.5, 3.5}, "open-CBC-HMAC/24", "x"},
		{line{"SM4-GCM seal vs gmsm's GCM", "one packet of 1408 bytes; " + alone, 0, 2.5, 4}, "SM4-GCM-seal", "x"},
		{line{"IMIX batch vs equal lengths", "96 packets of 64, 576 and 1400 bytes, 7:4:1; " + alone, 0, 0.7, 0.85}, "seal-IMIX-vs-equal-lengths/96", "x"},
		{line{"full handshakes per second vs the bound of SM2", "both ends in one process on one core, chains known, nothing pinned", 0, 0.6, 0.8}, "BenchmarkHandshake", "x-of-bound"},
	}
}

// fromBenchmarks reads what `go test -bench` printed. Of several kernels the last
// counts, which is the best of the machine; its name is told.
func fromBenchmarks(file string) ([]line, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list := computed()
	for in := bufio.NewScanner(f); in.Scan(); {
		fields := strings.Fields(in.Text())
		if len(fields) == 0 {
			continue
		}
		for i := range list {
			path, ok := named(fields[0], list[i].name)
			if !ok {
				continue
			}
			for n := 1; n < len(fields); n++ {
				if fields[n] != list[i].unit {
					continue
				}
				if list[i].measured, err = strconv.ParseFloat(fields[n-1], 64); err != nil {
					return nil, fmt.Errorf("%s: %w", file, err)
				}
				if path != "" {
					list[i].how = computed()[i].how + "; kernel " + path
				}
			}
		}
	}
	var out []line
	for _, x := range list {
		out = append(out, x.line)
	}
	return out, nil
}

// named tells whether a benchmark, printed with the number of cores behind it, is the
// one of a row, and for which kernel.
func named(printed, want string) (path string, ok bool) {
	if i := strings.LastIndexByte(printed, '-'); i > 0 && strings.Trim(printed[i+1:], "0123456789") == "" {
		printed = printed[:i]
	}
	if printed == want {
		return "", true
	}
	rest, ok := strings.CutPrefix(printed, "BenchmarkRatios/")
	if !ok {
		return "", false
	}
	path, rest, _ = strings.Cut(rest, "/")
	return path, rest == want
}

func printTable(list []line) {
	fmt.Printf("\n%-84s %12s %6s %6s\n", "ratio", "measured", "must", "aim")
	for _, r := range list {
		measured := "not measured"
		if r.measured > 0 {
			measured = fmt.Sprintf("%.2f", r.measured)
		}
		fmt.Printf("%-84s %12s %6.2g %6.2g\n    %s\n", r.what, measured, r.must, r.aim, r.how)
	}
}
