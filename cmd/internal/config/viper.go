package config

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/viper"
)

// collect lets viper lay the file over the defaults, the environment over the
// file and flags over all, and returns texts: what they mean is decided by the
// table of settings, so that nothing is converted in silence.
func collect(raw []byte, flags Flags) (values, error) {
	v := viper.New()
	v.SetConfigType("yaml")
	v.SetEnvPrefix(strings.TrimSuffix(envPrefix, "_"))
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	v.AutomaticEnv()
	out := values{text: map[string]string{}, where: map[string]string{}}
	for _, s := range settings() {
		v.SetDefault(s.key, s.standard)
		variable := envPrefix + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
		if os.Getenv(variable) != "" { // as viper: an empty variable is not set
			out.where[s.key] = variable
		}
		if text, given := flags[s.key]; given {
			v.Set(s.key, text)
			out.where[s.key] = "--" + FlagName(s.key)
		}
	}
	if err := v.ReadConfig(bytes.NewReader(raw)); err != nil {
		return values{}, err
	}
	for _, s := range settings() {
		if value := v.Get(s.key); value != nil {
			out.text[s.key] = fmt.Sprint(value)
		}
	}
	return out, nil
}
