package daemon

import (
	"yumen/cmd/internal/config"
	"yumen/cmd/internal/guard"
	"yumen/policy"
)

// saveGuard compiles a policy for the time when no gateway runs: the next boot. It
// comes before the policy is applied, so that nothing is ever protected now and
// forgotten then.
func saveGuard(c *config.Config, p *policy.Policy) error {
	g, err := guard.Compile(c, p)
	if err != nil {
		return err
	}
	return g.Save(c.StateDir)
}

// CompileGuard reads the policy of a configuration and compiles its guard. It needs
// no keys and touches nothing else.
func CompileGuard(c *config.Config) error {
	p, err := policy.Load(c.Policy)
	if err != nil {
		return err
	}
	if err := openState(c.StateDir); err != nil {
		return err
	}
	return saveGuard(c, p)
}
