package foreign

import "golang.org/x/text/encoding/simplifiedchinese"

// fromGBK decodes a line in GB 18030, which contains GBK: terminals in China often
// write descriptions so. What is neither becomes U+FFFD.
func fromGBK(b []byte) string {
	out, err := simplifiedchinese.GB18030.NewDecoder().Bytes(b)
	if err != nil {
		return string(b)
	}
	return string(out)
}
